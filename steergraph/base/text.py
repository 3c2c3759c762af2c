"""Text from elsewhere, made safe to show: it can neither move a cursor nor reverse a line."""

import unicodedata

_REFUSED = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def harmless(text: str) -> str:
    """`text` with every control, format and bidirectional character but newline and tab made visible."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _REFUSED else f"\\u{{{ord(c):x}}}" for c in text)
