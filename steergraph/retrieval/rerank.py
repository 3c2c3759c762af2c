"""The slot for a reranker: the best passages ordered again by whoever reads the issue and a passage together.

Knows what a reranker answers and how its word is mixed in. Knows no model; one that has a model is on a higher floor
(`steergraph.agents.rerank`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from steergraph.base.errors import InputError
from steergraph.retrieval.pack import Candidate

BEST = 50
"""How many passages are read again."""
SHARE = 0.5
"""How much of a passage's new worth is the reranker's, from 0 for its lowest score to 1 for its highest."""


class Reranker(Protocol):
    def scores(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """How well each of `passages` answers `query`; higher is better, on any scale."""
        ...


def reranked(
    reranker: Reranker, query: str, candidates: Sequence[Candidate], lines: Mapping[str, Sequence[str]]
) -> list[Candidate]:
    """`candidates`, best first, the first BEST of them in a new order. Raises InputError where scores are missing or
    not finite."""
    best, rest = list(candidates[:BEST]), list(candidates[BEST:])
    if not best:
        return []
    said = [float(score) for score in reranker.scores(query, [_text(one, lines) for one in best])]
    if len(said) != len(best) or not all(abs(score) < float("inf") for score in said):
        raise InputError(f"the reranker gave {len(said)} scores, or some that are no numbers, for {len(best)} passages")
    low, high = min(said), max(said)
    top = max(one.score for one in best)
    mixed = []
    for one, score in zip(best, said, strict=True):
        share = (score - low) / (high - low) if high > low else 0.0
        why = (*one.why, f"{SHARE * share * top:+.2f} reranked")
        mixed.append(replace(one, score=(1 - SHARE) * one.score + SHARE * share * top, why=why))
    return [*sorted(mixed, key=lambda one: -one.score), *rest]


def _text(candidate: Candidate, lines: Mapping[str, Sequence[str]]) -> str:
    piece = candidate.piece
    return "\n".join([candidate.path, *lines[candidate.path][piece.first - 1 : piece.last]])
