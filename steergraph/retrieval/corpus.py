"""The files of one commit as rows of term counts, and the rows that a query's terms have.

Knows how analyses of blobs are kept (in memory, else on disk, else made) and stacked. Knows nothing of weights or
scores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steergraph.base.bounded import BoundedCache
from steergraph.repo.contents import FileEntry, why_no_text
from steergraph.repo.repository import Repository
from steergraph.retrieval.analysis import FIELDS, PATH, VERSION, BlobTerms, analyse, path_ids
from steergraph.retrieval.term_cache import Key, TermCache
from steergraph.retrieval.terms import term_id

_NO_TEXT = b"no text: "
_BATCH_BYTES = 4_000_000
_KEPT_BYTES = 128_000_000
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """Rows of a corpus that have one of a query's terms; all arrays have the shape [rows]."""

    doc: Numbers
    leaf: Numbers
    """-1 in field PATH."""
    field: Numbers
    term: Numbers
    """Place of the term in the query."""
    count: Floats


class Corpus:
    """`paths` with the analysis of each, in the same order. Immutable; safe to use from several threads."""

    def __init__(self, paths: Sequence[str], blobs: Sequence[BlobTerms]) -> None:
        self.paths = tuple(paths)
        self.blobs = tuple(blobs)
        leaves = [len(blob.first) for blob in blobs]
        rows = [len(blob.leaf) for blob in blobs]
        self.first_leaf = np.concatenate([[0], np.cumsum(leaves)]).astype(np.int64)
        """[files + 1] Where each file's leaves start."""
        self.leaf_doc: Numbers = np.repeat(np.arange(len(blobs)), leaves)
        """[leaves] The file of each leaf."""
        of_path = [path_ids(path) for path in paths]
        self._doc = np.repeat(np.arange(len(blobs)), rows)
        self._leaf = _joined([blob.leaf for blob in blobs], np.int64) + self.first_leaf[:-1][self._doc]
        self._field = _joined([blob.field for blob in blobs], np.int64)
        self._term = _joined([blob.term for blob in blobs], np.uint64)
        self._count = _joined([blob.count for blob in blobs], np.float64)
        self._path_doc: Numbers = np.repeat(np.arange(len(blobs)), [len(ids) for ids in of_path])
        self._path_term = np.array([i for ids in of_path for i in ids], np.uint64)
        size = len(blobs) * len(FIELDS)
        lengths = np.bincount(self._doc * len(FIELDS) + self._field, weights=self._count, minlength=size)
        self.lengths: Floats = lengths.astype(np.float64).reshape(len(blobs), len(FIELDS))
        """[files, fields] Terms in each field."""
        self.lengths[:, PATH] = [len(ids) for ids in of_path]
        leaf_lengths = np.bincount(self._leaf, weights=self._count, minlength=int(self.first_leaf[-1]))
        self.leaf_lengths: Floats = leaf_lengths.astype(np.float64)
        """[leaves] Terms in each leaf."""

    def known(self, terms: Sequence[str]) -> set[str]:
        """Those of `terms` that stand in some file, or in its path."""
        hits = self.hits(terms)
        return {terms[at] for at in np.unique(hits.term)}

    def hits(self, terms: Sequence[str]) -> Hits:
        """The rows that have one of `terms` (distinct)."""
        ids = np.array([term_id(term) for term in terms], np.uint64)
        order = np.argsort(ids)
        at, term = _matches(self._term, ids[order], order)
        path_at, path_term = _matches(self._path_term, ids[order], order)
        return Hits(
            doc=np.concatenate([self._doc[at], self._path_doc[path_at]]),
            leaf=np.concatenate([self._leaf[at], np.full(len(path_at), -1)]),
            field=np.concatenate([self._field[at], np.full(len(path_at), PATH)]),
            term=np.concatenate([term, path_term]),
            count=np.concatenate([self._count[at], np.ones(len(path_at))]),
        )


class AnalysisStore:
    """The analyses of blobs. Safe to use from several threads.

    Args:
        cache: the cache on disk; None for none.
        kept_bytes: how much is kept in memory for the next commit.
    """

    def __init__(self, cache: TermCache | None = None, kept_bytes: int = _KEPT_BYTES) -> None:
        self._cache = cache
        self._kept: BoundedCache[Key, BlobTerms | str] = BoundedCache(kept_bytes)

    def analyses(self, repo: Repository, entries: Sequence[FileEntry]) -> list[BlobTerms | str]:
        """The analysis of each of `entries`, or why it is no text."""
        found: dict[str, BlobTerms | str] = {}
        wanted: dict[Key, FileEntry] = {}
        for entry in entries:
            if reason := why_no_text(entry):
                found[entry.path] = reason
            else:
                wanted.setdefault(_key(entry), entry)
        known = self._kept.get_many(wanted)
        absent = {key: entry for key, entry in wanted.items() if key not in known}
        made: dict[Key, BlobTerms | str] = {}
        if self._cache is not None:
            for key, data in self._cache.get_many(absent).items():
                try:
                    made[key] = _read(data)
                except ValueError:  # made anew
                    continue
        for batch in _batches({key: entry for key, entry in absent.items() if key not in made}):
            read = repo.read_entries(list(batch.values()))
            new = {
                key: file.reason or "no text" if file.text is None else analyse(file.path, file.text)
                for key, file in zip(batch, read, strict=True)
            }
            if self._cache is not None:
                self._cache.put_many({key: _written(one) for key, one in new.items()})
            made |= new
        for key, one in made.items():
            self._kept.put(key, one, _bytes(one))
        known |= made
        return [found[entry.path] if entry.path in found else known[_key(entry)] for entry in entries]


def _key(entry: FileEntry) -> Key:
    return Key("python" if entry.path.endswith((".py", ".pyi")) else "text", VERSION, entry.blob)


def _read(data: bytes) -> BlobTerms | str:
    return data[len(_NO_TEXT) :].decode() if data.startswith(_NO_TEXT) else BlobTerms.from_bytes(data)


def _written(one: BlobTerms | str) -> bytes:
    return _NO_TEXT + one.encode() if isinstance(one, str) else one.to_bytes()


def _bytes(one: BlobTerms | str) -> int:
    return 400 if isinstance(one, str) else 1000 + 15 * len(one.leaf) + 100 * len(one.first)


def _batches(entries: Mapping[Key, FileEntry]) -> Iterator[dict[Key, FileEntry]]:
    batch: dict[Key, FileEntry] = {}
    held = 0
    for key, entry in entries.items():
        batch[key] = entry
        held += entry.size or 0
        if held >= _BATCH_BYTES:
            yield batch
            batch, held = {}, 0
    if batch:
        yield batch


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False)


def _matches(terms: NDArray[np.uint64], wanted: NDArray[np.uint64], order: Numbers) -> tuple[Numbers, Numbers]:
    """Where one of `wanted` (ascending) stands in `terms`, and which: `order` of its place."""
    if not len(wanted) or not len(terms):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    places = wanted.searchsorted(terms)
    places[places == len(wanted)] = 0
    at = np.flatnonzero(wanted[places] == terms)
    return at, order[places[at]]
