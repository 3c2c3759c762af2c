"""Text for people: from elsewhere, so that it can neither move a cursor nor reverse a line; and tables in Markdown."""

import unicodedata
from collections.abc import Sequence

_REFUSED = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def harmless(text: str) -> str:
    """`text` with every control, format and bidirectional character but newline and tab made visible."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _REFUSED else f"\\u{{{ord(c):x}}}" for c in text)


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold `text`: half of a surrogate pair, which JSON lets through, is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """A table in Markdown, without a last newline; the columns from `left` on stand to the right. Escapes nothing."""
    rule = ["---" if left is None or at < left else "--:" for at in range(len(heads))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *rows))


def printable(text: str, instead: str = " ") -> str:
    """`text` with `instead` in the place of every character that can't be printed, line ends too."""
    return "".join(c if c.isprintable() else instead for c in text)
