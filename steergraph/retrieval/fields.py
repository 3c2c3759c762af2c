"""BM25 with fields, over files and over their functions.

Knows counts by field and the weights of a query's terms. Knows nothing of issues or passages. Formulas: BM25F
(Robertson, Zaragoza, Taylor 2004; lengths normalised in each field, saturation after the fields are summed), with the
weight of a term ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
"""

from collections.abc import Mapping

import numpy as np

from steergraph.retrieval.analysis import FIELDS, NAME, PATH
from steergraph.retrieval.corpus import Corpus, Floats, Hits, Numbers

FIELD_WEIGHTS: Mapping[str, float] = {"code": 1.0, "name": 3.0, "doc": 1.0, "comment": 1.0, "string": 1.0, "path": 3.0}
"""Of a file. A defined name counts in `code` as well."""
_LEAF_WEIGHTS: Mapping[str, float] = {**FIELD_WEIGHTS, "name": 2.0, "path": 0.0}
_K1, _B = 1.2, 0.75
_POOLED, _DECAY = 8, 0.7


class Scored:
    """The scores of a query over a corpus.

    Args:
        weights: of the query's terms.
    """

    def __init__(self, corpus: Corpus, weights: Mapping[str, float]) -> None:
        self.corpus = corpus
        self.terms = list(weights)
        self.weights: Floats = np.array(list(weights.values()), np.float64)
        self.hits: Hits = corpus.hits(self.terms)
        average = corpus.lengths.mean(axis=0) + 1e-9 if len(corpus.paths) else np.ones(len(FIELDS))
        norms = 1 - _B + _B * corpus.lengths / average
        tf = self.hits.count * _of(FIELD_WEIGHTS)[self.hits.field] / norms[self.hits.doc, self.hits.field]
        self._file = _Sparse(self.hits.doc, self.hits.term, tf, len(corpus.paths), self.weights)
        inside = self.hits.field != PATH
        self._average_leaf = max(1e-9, float(corpus.leaf_lengths.sum()) / max(1, len(corpus.leaf_lengths)))
        self._leaf = _Sparse(
            self.hits.leaf[inside],
            self.hits.term[inside],
            self.hits.count[inside] * _of(_LEAF_WEIGHTS)[self.hits.field[inside]],
            len(corpus.leaf_lengths),
            self.weights,
            _K1 * (1 - _B + _B * corpus.leaf_lengths / self._average_leaf),
        )
        self.files: Floats = self._file.scores
        """[files] BM25F."""
        self.leaves: Floats = self._leaf.scores
        """[leaves] BM25."""

    def idf(self) -> Floats:
        """[terms] Of the files, times the term's weight in the query."""
        return self._file.idf * self.weights

    def pooled(self) -> Floats:
        """[files] The scores of a file's best leaves, the next one counting 0.7 of the one before, 8 at most."""
        order = np.lexsort((-self.leaves, self.corpus.leaf_doc))
        doc = self.corpus.leaf_doc[order]
        place = np.arange(len(order)) - self.corpus.first_leaf[doc]
        worth = np.where(place < _POOLED, _DECAY ** np.minimum(place, _POOLED), 0.0) * self.leaves[order]
        return _sums(doc, worth, len(self.corpus.paths))

    def terms_of(self, doc: int) -> list[tuple[str, float, tuple[str, ...]]]:
        """What adds to the score of file `doc`: term, share of the score, the fields it stands in; most first."""
        mine = self._file.row == doc
        total = self._file.parts[mine].sum()
        found = []
        for at in np.flatnonzero(mine)[np.argsort(-self._file.parts[mine], kind="stable")]:
            term = int(self._file.col[at])
            where = np.unique(self.hits.field[(self.hits.doc == doc) & (self.hits.term == term)])
            found.append((self.terms[term], float(self._file.parts[at] / total), tuple(FIELDS[f] for f in where)))
        return found

    def span(self, doc: int, first: int, last: int) -> tuple[float, list[str]]:
        """BM25 of lines `first` to `last` of file `doc` as one document among the leaves, and its terms, most first.

        The leaves that lie inside the lines are joined.
        """
        low, high = self.corpus.first_leaf[doc], self.corpus.first_leaf[doc + 1]
        blob = self.corpus.blobs[doc]
        inside = np.flatnonzero((blob.first >= first) & (blob.last <= last)) + low
        if not len(inside):
            return 0.0, []
        start, end = int(inside[0]), int(inside[-1]) + 1
        a, b = np.searchsorted(self._leaf.row, [start, min(end, high)])
        tf = _sums(self._leaf.col[a:b], self._leaf.tf[a:b], len(self.terms))
        length = float(self.corpus.leaf_lengths[start:end].sum()) / self._average_leaf
        parts = self._leaf.idf * self.weights * tf * (_K1 + 1) / (tf + _K1 * (1 - _B + _B * length))
        best = [self.terms[at] for at in np.argsort(-parts, kind="stable") if parts[at] > 0]
        return float(parts.sum()), best

    def defined(self) -> Numbers:
        """[pairs, 2] File and term, for each term that a file defines as a name."""
        rows = self.hits.field == NAME
        found: Numbers = np.unique(np.stack([self.hits.doc[rows], self.hits.term[rows]], axis=1), axis=0)
        return found


class _Sparse:
    """tf by row and term, saturated and weighted: rows ascending, then terms."""

    def __init__(
        self, row: Numbers, col: Numbers, tf: Floats, rows: int, weights: Floats, norms: Floats | None = None
    ) -> None:
        width = max(1, len(weights))
        key, inverse = np.unique(row * width + col, return_inverse=True)
        self.tf: Floats = _sums(inverse, tf, len(key))
        self.row, self.col = np.divmod(key, width)
        n = np.bincount(self.col, minlength=width)[: len(weights)]
        self.idf: Floats = np.log(1 + (rows - n + 0.5) / (n + 0.5))
        norm = np.full(len(key), _K1) if norms is None else norms[self.row]
        worth = np.append(self.idf * weights, np.zeros(width - len(weights)))
        self.parts: Floats = worth[self.col] * self.tf * (_K1 + 1) / (self.tf + norm)
        self.scores: Floats = _sums(self.row, self.parts, rows)


def _sums(places: Numbers, values: Floats, size: int) -> Floats:
    """[size] The sum of the values at each place."""
    return np.bincount(places, weights=values, minlength=size).astype(np.float64)


def _of(weights: Mapping[str, float]) -> Floats:
    return np.array([weights[name] for name in FIELDS])
