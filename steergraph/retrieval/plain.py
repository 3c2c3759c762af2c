"""Whole files by BM25 and nothing else: rank_bm25's own scores for the files of a commit, in a fraction of its time.

Knows how to count the terms of many texts at once, and to keep the counts of a blob in memory and on disk, so that the
next commit counts only what changed. Knows no fields, passages or issues: what those add is measured against this.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from steergraph.retrieval import terms
from steergraph.retrieval.contents import FileEntry, why_no_text
from steergraph.retrieval.okapi import SparseOkapi, TermCounts, term_id
from steergraph.retrieval.repository import Repository
from steergraph.retrieval.term_cache import Key, TermCache

_SEPARATED = bytes(code if chr(code).isascii() and (chr(code).isalnum() or code == 95) else 32 for code in range(256))
_DIGITS = b"0123456789"
_BATCH_BYTES = 1_000_000
_KEPT_BYTES = 64_000_000
_KIND = "counts"


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
        """All ids, and where those of each word start, with the end of the last [words + 1]."""
        return np.array(self._ids, np.uint64), np.array(self._starts, np.int64)


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


class CountStore:
    """The counts of blobs: in memory, else on disk, else made. Safe to use from several threads.

    Args:
        cache: the cache on disk; None for none.
        kept_bytes: how much is kept in memory for the next commit.
    """

    def __init__(self, cache: TermCache | None = None, kept_bytes: int = _KEPT_BYTES) -> None:
        self._cache = cache
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, TermCounts | None] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def counts(self, repo: Repository, entries: Sequence[FileEntry]) -> list[TermCounts | None]:
        """The counts of each of `entries`, None for one that is no text."""
        files = [entry for entry in entries if why_no_text(entry) is None]
        with self._lock:
            known = {entry.blob: self._kept[entry.blob] for entry in files if entry.blob in self._kept}
            for blob in known:
                self._kept.move_to_end(blob)
        absent = [entry for entry in {entry.blob: entry for entry in files}.values() if entry.blob not in known]
        made = self._read([entry.blob for entry in absent])
        words = Vocabulary()
        for batch in _batches([entry for entry in absent if entry.blob not in made]):
            made |= self._make(repo, batch, words)
        for blob, counts in made.items():
            self._keep(blob, counts)
        known |= made
        return [known.get(entry.blob) for entry in entries]

    def _read(self, blobs: Sequence[str]) -> dict[str, TermCounts | None]:
        if self._cache is None:
            return {}
        found: dict[str, TermCounts | None] = {}
        for key, data in self._cache.get_many(Key(_KIND, terms.VERSION, blob) for blob in blobs).items():
            try:
                found[key.blob] = TermCounts.from_bytes(data) if data else None
            except ValueError:  # made anew
                continue
        return found

    def _make(self, repo: Repository, entries: Sequence[FileEntry], words: Vocabulary) -> dict[str, TermCounts | None]:
        made: dict[str, TermCounts | None] = dict.fromkeys(entry.blob for entry in entries)
        texts: dict[str, str] = {}
        for entry, file in zip(entries, repo.read_entries(entries, keep=False), strict=True):
            if file.text is not None:
                texts[entry.blob] = file.text
        made |= zip(texts, count_terms(texts.values(), words), strict=True)
        if self._cache is not None:
            self._cache.put_many(
                {
                    Key(_KIND, terms.VERSION, blob): b"" if counts is None else counts.to_bytes()
                    for blob, counts in made.items()
                }
            )
        return made

    def _keep(self, blob: str, counts: TermCounts | None) -> None:
        with self._lock:
            if blob in self._kept:
                return
            self._kept[blob] = counts
            self._held += _bytes(counts)
            while self._held > self._kept_bytes:
                self._held -= _bytes(self._kept.popitem(last=False)[1])


class PlainIndex:
    """BM25Okapi over the files of one commit: a document is a file's path and content.

    Args:
        repo, entries: the repository, and the files to rank (of `repo.files`); those that are no text are left out.
        store: keeps counts between commits.
    """

    def __init__(self, repo: Repository, entries: Sequence[FileEntry], store: CountStore) -> None:
        counts = store.counts(repo, entries)
        found = {entry.path: own for entry, own in zip(entries, counts, strict=True) if own is not None}
        self.paths = sorted(found)
        """Of the documents, in the order of their scores."""
        self.okapi = SparseOkapi(
            [TermCounts.join(own, found[path]) for path, own in zip(self.paths, count_terms(self.paths), strict=True)]
        )

    def rank(self, query: str) -> list[tuple[str, float]]:
        """Every file and its score, best first; equal scores by path."""
        scores = self.okapi.get_scores(terms.terms(query))
        return [(self.paths[at], float(scores[at])) for at in np.argsort(-scores, kind="stable")]


def _batches(entries: Sequence[FileEntry]) -> Iterator[list[FileEntry]]:
    batch: list[FileEntry] = []
    held = 0
    for entry in entries:
        batch.append(entry)
        held += entry.size or 0
        if held >= _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _bytes(counts: TermCounts | None) -> int:
    return 200 if counts is None else 200 + counts.ids.nbytes + counts.counts.nbytes
