"""Text to terms: identifiers as a whole, and the words they are made of.

Knows how names are written in code. Knows nothing of files or scores. Whoever changes what `terms` returns changes
every ranking, and the version below with it.
"""

import hashlib
import re
from functools import lru_cache

VERSION = 1
"""Of the tokenizer: terms kept anywhere are only read back by the version that made them."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")


def identifiers(text: str) -> list[str]:
    """The identifiers of `text` (a letter or underscore, then letters, digits, underscores), as written, in order."""
    return _IDENTIFIER.findall(text)


def sub_words(identifier: str) -> list[str]:
    """The lower-cased words of a snake_case, camelCase or mixed identifier, digits apart; [] where there is one only.

    `HTTPResponse2_name` gives http, response, 2, name.
    """
    words = [word.lower() for word in _WORD.findall(identifier)]
    return words if len(words) > 1 else []


def split_identifier(identifier: str) -> tuple[str, ...]:
    """The terms of one identifier: itself lower-cased, then its words if it has more than one."""
    return (identifier.lower(), *sub_words(identifier))


def terms(text: str) -> list[str]:
    """The terms of `text`, in order, repeated as often as they occur."""
    known: dict[str, tuple[str, ...]] = {}
    found: list[str] = []
    for identifier in _IDENTIFIER.findall(text):
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
