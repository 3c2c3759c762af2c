"""Text to terms: identifiers as a whole, and the words they are made of.

Knows how names are written in code. Knows nothing of files or scores. Whoever changes what `terms` returns changes
every ranking, and the version below with it.
"""

import hashlib
import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

VERSION = 3
"""Of the tokenizer: terms kept anywhere are only read back by the version that made them."""

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")
_UNICODE_WORD = re.compile(r"[^\W\d_]+|\d+")
_WITHOUT_BLANKS = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""Scripts that write no blanks between words, or few: Thai, Lao, Burmese, Khmer, Japanese, Chinese, Korean. Their words
are found by pairs of letters (bigrams), the usual way of indexing them without a dictionary."""


def identifiers(text: str) -> list[str]:
    """The identifiers of `text` (a letter of any script or underscore, then letters, digits, underscores), in order."""
    return _IDENTIFIER.findall(text)


def sub_words(identifier: str) -> list[str]:
    """The lower-cased words of a snake_case, camelCase or mixed identifier, digits apart; [] where there is one only.

    `HTTPResponse2_name` gives http, response, 2, name. Other alphabets are split likewise, and a run of letters of a
    script without blanks gives its bigrams.
    """
    if identifier.isascii():
        words = [word.lower() for word in _WORD.findall(identifier)]
        return words if len(words) > 1 else []
    words = [word for run in _UNICODE_WORD.findall(identifier) for word in _words_of(run)]
    return words if words != [identifier.lower()] else []


def _words_of(run: str) -> list[str]:
    """The lower-cased words of a run of letters, or of digits."""
    words, at = [], 0
    for match in _WITHOUT_BLANKS.finditer(run):
        pairs = [match[0][k : k + 2] for k in range(max(1, len(match[0]) - 1))]
        words += [*_by_case(run[at : match.start()]), *pairs]
        at = match.end()
    return [*words, *_by_case(run[at:])]


def _by_case(letters: str) -> list[str]:
    """camelCase taken apart, in any alphabet that has cases."""
    starts = [k for k in range(1, len(letters)) if letters[k].isupper() and not letters[k - 1].isupper()]
    edges = [0, *starts, len(letters)]
    return [letters[a:b].lower() for a, b in pairwise(edges) if letters[a:b]]


def split_identifier(identifier: str) -> tuple[str, ...]:
    """The terms of one identifier: itself lower-cased, then its words if it has more than one."""
    return (identifier.lower(), *sub_words(identifier))


def terms(text: str) -> list[str]:
    """The terms of `text`, in order, repeated as often as they occur."""
    known: dict[str, tuple[str, ...]] = {}
    found: list[str] = []
    for identifier in _IDENTIFIER.findall(text if text.isascii() else unicodedata.normalize("NFC", text)):
        split = known.get(identifier)
        if split is None:
            split = known[identifier] = split_identifier(identifier)
        found.extend(split)
    return found


@lru_cache(maxsize=2**18)
def term_id(term: str) -> int:
    """The 64-bit hash that stands for `term`; the same on every machine and in every process.

    With it, counts made apart (for each blob, by another process, last week) are put together without a shared
    vocabulary. Two of a million terms share a hash with a probability of 3e-8, and would then count as one.
    """
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
