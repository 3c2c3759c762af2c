"""The plain ranker: rank_bm25's own BM25Okapi over documents of terms, with an order that never depends on chance.

Knows terms and scores. Knows nothing of repositories or budgets.
"""

from collections.abc import Mapping, Sequence

from rank_bm25 import BM25Okapi

from steergraph.base.records import Frozen


class Ranked(Frozen):
    """A document and its score; higher is better."""

    path: str
    score: float
    why: tuple[str, ...] = ()
    """What made the score, a line each; empty where nothing but BM25 did."""


class Index:
    """BM25Okapi (its default k1, b and epsilon) over named documents of terms."""

    def __init__(self, documents: Mapping[str, Sequence[str]]) -> None:
        self._names = sorted(documents)
        corpus = [documents[name] for name in self._names]
        # rank_bm25 divides by the number of documents and of terms.
        self._bm25 = BM25Okapi(corpus) if any(corpus) else None

    def __contains__(self, term: object) -> bool:
        return self._bm25 is not None and term in self._bm25.idf

    def idf(self, term: str) -> float:
        """The weight of `term`, 0 where no document has it."""
        return float(self._bm25.idf.get(term, 0.0)) if self._bm25 else 0.0

    def rank(self, query: Sequence[str]) -> list[Ranked]:
        """Every document, best first; equal scores by name. A term counts as often as `query` repeats it."""
        scores = [0.0] * len(self._names) if self._bm25 is None else self._bm25.get_scores(query).tolist()
        ranked = [Ranked(path=name, score=score) for name, score in zip(self._names, scores, strict=True)]
        return sorted(ranked, key=lambda document: -document.score)  # stable, and the names are sorted already
