"""The terms of many texts counted at once: what `terms.terms` finds, without a step in Python for each occurrence.

Knows texts, the words in them and the terms these stand for. Knows nothing of files, fields or scores.
"""

from array import array
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from steergraph.retrieval import terms
from steergraph.retrieval.okapi import TermCounts, term_id

_SEPARATED = bytes(code if chr(code).isascii() and (chr(code).isalnum() or code == 95) else 32 for code in range(256))
_DIGITS = b"0123456789"


class Vocabulary(dict[bytes, int]):
    """Numbers of the words of texts, given as they are first asked for, and the term ids that each of them stands for.

    A word is what stands between characters that no identifier has; the identifier in it starts after its digits.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ids = array("Q")
        self._starts = array("q", [0])
        self._known: dict[str, int] = {}

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self)
        identifier = word.lstrip(_DIGITS).decode("ascii")
        if identifier:
            # What has one case and no separators is one term.
            simple = identifier.islower() and identifier.isalpha()
            for term in (identifier,) if simple else terms.split_identifier(identifier):
                known = self._known.get(term)
                if known is None:
                    known = self._known[term] = term_id(term)
                self._ids.append(known)
        self._starts.append(len(self._ids))
        return number

    def tables(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """All ids, and where those of each word start, with the end of the last [words + 1].

        Views: they have to be let go before the next word is added.
        """
        ids = np.frombuffer(self._ids, np.uint64) if self._ids else np.zeros(0, np.uint64)
        return ids, np.frombuffer(self._starts, np.int64)


def count_terms(texts: Iterable[str], words: Vocabulary | None = None) -> list[TermCounts]:
    """`TermCounts.of(terms(text))` for each of `texts`, all at once. An id may stand in one twice.

    Most of the time of counting goes into handling one occurrence after the other in Python. Here that is a look-up,
    called from C; the rest is arithmetic on arrays. `words` may be handed from one call to the next.
    """
    words = Vocabulary() if words is None else words
    numbers = [np.fromiter(map(words.__getitem__, _words(text)), np.int32) for text in texts]
    ids, starts = words.tables()
    size = max(1, len(words))
    # One number for each pair of a text and a word; equal ones are counted.
    pairs = np.repeat(np.arange(len(numbers)) * size, [len(of_text) for of_text in numbers])
    pairs += np.concatenate([*numbers, np.zeros(0, np.int32)])
    total = len(numbers)
    del numbers
    pairs.sort()
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    counts = np.diff(first, append=len(pairs))
    which, word = np.divmod(pairs[first], size)
    sizes = (starts[1:] - starts[:-1])[word]
    ends = np.cumsum(sizes)
    ids = ids[np.repeat(starts[:-1][word] - ends + sizes, sizes) + np.arange(int(sizes.sum()))]
    repeated = np.repeat(counts, sizes).astype(np.uint32)
    edges = np.append(0, ends)[np.searchsorted(which, np.arange(total + 1))].tolist()
    # Copies: a view of one would keep all of them in memory.
    return [TermCounts(ids[a:b].copy(), repeated[a:b].copy()) for a, b in pairwise(edges)]


def _words(text: str) -> list[bytes]:
    return text.encode("utf-8", "surrogatepass").translate(_SEPARATED).split()
