"""Whole files by BM25 and nothing else: rank_bm25's own scores for the files of a commit, in a fraction of its time.

Knows how to keep the counts of a blob in memory and on disk, so that the next commit counts only what changed. Knows no
fields, passages or issues: what those add is measured against this.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from steergraph.base.bounded import BoundedCache
from steergraph.repo.contents import FileEntry, why_no_text
from steergraph.repo.repository import Repository
from steergraph.retrieval import terms
from steergraph.retrieval.counting import Vocabulary, count_terms
from steergraph.retrieval.okapi import SparseOkapi, TermCounts
from steergraph.retrieval.term_cache import Key, TermCache

_BATCH_BYTES = 1_000_000
_KEPT_BYTES = 64_000_000
_WORDS = 30_000
_KIND = "counts"


class CountStore:
    """The counts of blobs: in memory, else on disk, else made. Safe to use from several threads.

    Args:
        cache: the cache on disk; None for none.
        kept_bytes: how much is kept in memory for the next commit.
    """

    def __init__(self, cache: TermCache | None = None, kept_bytes: int = _KEPT_BYTES) -> None:
        self._cache = cache
        self._kept: BoundedCache[str, TermCounts | None] = BoundedCache(kept_bytes)

    def counts(self, repo: Repository, entries: Sequence[FileEntry]) -> list[TermCounts | None]:
        """The counts of each of `entries`, None for one that is no text."""
        files = [entry for entry in entries if why_no_text(entry) is None]
        known = self._kept.get_many(entry.blob for entry in files)
        absent = [entry for entry in {entry.blob: entry for entry in files}.values() if entry.blob not in known]
        made = self._read([entry.blob for entry in absent])
        words = Vocabulary()
        for batch in _batches([entry for entry in absent if entry.blob not in made]):
            made |= self._make(repo, batch, words)
            if len(words) > _WORDS:  # a large repository has millions
                words = Vocabulary()
        for blob, counts in made.items():
            self._kept.put(blob, counts, _bytes(counts))
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
