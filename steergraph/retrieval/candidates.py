"""The pieces of the best files, each with its worth, best first: what may be packed.

Knows two ways to score them: with fields over the whole commit, and by rank_bm25 over these pieces alone. Knows nothing
of budgets. A piece's worth is a mix of its own score and its file's, each relative to the best one.
"""

from collections.abc import Mapping, Sequence
from typing import overload

from steergraph.repo.contents import FileText
from steergraph.retrieval.pack import Candidate
from steergraph.retrieval.passages import Piece, pieces, split_lines
from steergraph.retrieval.rank import Index, Ranked
from steergraph.retrieval.signals import Signals
from steergraph.retrieval.terms import terms

IN_TRACEBACK = 0.5
"""Added to the own score of a function that a traceback of the issue names."""
_SHOWN_TERMS = 6


class LineWeights(Sequence[float]):
    """How much each of `lines` matches the query: the weights of the terms in it. Worked out when first asked for."""

    def __init__(self, lines: Sequence[str], weights: Mapping[str, float]) -> None:
        self._lines, self._weights = lines, weights
        self._made: list[float] | None = None

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> float: ...
    @overload
    def __getitem__(self, at: slice) -> list[float]: ...
    def __getitem__(self, at: int | slice) -> float | list[float]:
        if self._made is None:
            self._made = [
                sum(self._weights[term] for term in self._weights.keys() & set(terms(line))) for line in self._lines
            ]
        return self._made[at]


def by_fields(
    read: Sequence[FileText], signals: Signals, scores: Mapping[str, float], own_share: float, floor: float
) -> tuple[list[Candidate], dict[str, list[str]]]:
    """Candidates of the files `read`, whose `scores` are given by path, and those files' lines."""
    lines = {file.path: split_lines(file.text or "") for file in read}
    number = {path: at for at, path in enumerate(signals.corpus.paths)}
    worth = dict(zip(signals.scored.terms, signals.scored.idf().tolist(), strict=True))
    found: list[tuple[str, Piece, float, list[str]]] = []
    for file in read:
        doc = number[file.path]
        for piece in signals.corpus.blobs[doc].pieces():
            own, matched = signals.scored.span(doc, piece.first, piece.last)
            found.append((file.path, piece, own, matched))
    best_own = max([1e-9, *(own for _, _, own, _ in found)])
    best_file = max([1e-9, *scores.values()])
    candidates = []
    for path, piece, own, matched in found:
        traced = _traced(signals, number[path], piece)
        share = own / best_own + (IN_TRACEBACK if traced else 0.0)
        why = [f"{own_share * own / best_own:+.2f} matches: {', '.join(matched[:_SHOWN_TERMS])}"] if matched else []
        if traced:
            why.append(f"{own_share * IN_TRACEBACK:+.2f} in a traceback")
        of_file = (1 - own_share) * scores[path] / best_file
        candidates.append(
            Candidate(
                path=path,
                piece=piece,
                score=own_share * share + of_file,
                weights=LineWeights(lines[path][piece.first - 1 : piece.last], worth),
                why=(*why, f"{of_file:+.2f} its file"),
            )
        )
    return _best_first(candidates, floor), lines


def plain(
    read: Sequence[FileText], ranked: Sequence[Ranked], asked: Sequence[str], own_share: float, floor: float
) -> tuple[list[Candidate], dict[str, list[str]]]:
    """As `by_fields`, by BM25Okapi over the terms of these pieces."""
    lines = {file.path: split_lines(file.text or "") for file in read}
    found = {
        f"{at:05d} {number:05d}": (file.path, piece)
        for at, file in enumerate(read)
        for number, piece in enumerate(pieces(file.path, file.text or ""))
    }
    words = {path: [terms(line) for line in of_file] for path, of_file in lines.items()}
    index = Index(
        {
            key: [*terms(piece.name), *(t for line in words[path][piece.first - 1 : piece.last] for t in line)]
            for key, (path, piece) in found.items()
        }
    )
    own = {document.path: document.score for document in index.rank(asked)}
    of_file = {document.path: document.score for document in ranked}
    best_own, best_file = (max([1e-9, *scores.values()]) for scores in (own, of_file))
    weights = {term: index.idf(term) for term in set(asked)}
    candidates = [
        Candidate(
            path=path,
            piece=piece,
            score=own_share * own[key] / best_own + (1 - own_share) * of_file[path] / best_file,
            weights=LineWeights(lines[path][piece.first - 1 : piece.last], weights),
        )
        for key, (path, piece) in found.items()
    ]
    return _best_first(candidates, floor), lines


def _traced(signals: Signals, doc: int, piece: Piece) -> bool:
    name = piece.name.rsplit(".", 1)[-1]
    return bool(name) and any(
        called.rsplit(".", 1)[-1] == name if called else piece.first <= line <= piece.last
        for line, called in signals.frames.get(doc, ())
    )


def _best_first(candidates: Sequence[Candidate], floor: float) -> list[Candidate]:
    # Okapi's scores can be negative where the files are few: then nothing is a share of the best.
    most = max((c.score for c in candidates), default=0.0)
    least = floor * most if most > 0 else float("-inf")
    return sorted((c for c in candidates if c.score >= least), key=lambda c: -c.score)
