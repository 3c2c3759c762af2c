"""The pieces of the best files, each with its worth, best first: what may be packed.

Knows two ways to score them: with fields over the whole commit, and by rank_bm25 over these pieces alone. Knows nothing
of budgets. A piece's worth is a mix of its own score and its file's, each relative to the best one.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple, overload

from steergraph.repo.contents import FileText
from steergraph.retrieval.pack import Candidate
from steergraph.retrieval.passages import Piece, pieces, split_lines
from steergraph.retrieval.rank import Index
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


class _Own(NamedTuple):
    """A piece by itself: its own score, the query's terms that made it, and whether a traceback names it."""

    path: str
    piece: Piece
    score: float
    terms: Sequence[str] = ()
    traced: bool = False


def by_fields(
    files: Sequence[FileText], signals: Signals, scores: Mapping[str, float], own_share: float, floor: float
) -> tuple[list[Candidate], dict[str, list[str]]]:
    """Candidates of `files`, whose `scores` are given by path, and those files' lines."""
    number = {path: at for at, path in enumerate(signals.corpus.paths)}
    own = []
    for file in files:
        doc = number[file.path]
        for piece in signals.corpus.blobs[doc].pieces():
            score, matched = signals.scored.span(doc, piece.first, piece.last)
            own.append(_Own(file.path, piece, score, matched, _traced(signals, doc, piece)))
    weights = dict(zip(signals.scored.terms, signals.scored.idf().tolist(), strict=True))
    lines = _lines(files)
    return _mixed(own, lines, scores, weights, own_share, floor), lines


def by_rank_bm25(
    files: Sequence[FileText], query: Sequence[str], scores: Mapping[str, float], own_share: float, floor: float
) -> tuple[list[Candidate], dict[str, list[str]]]:
    """As `by_fields`, by BM25Okapi over the terms of these pieces; `query` is the query's terms."""
    lines = _lines(files)
    found = {
        f"{at:05d} {number:05d}": (file.path, piece)
        for at, file in enumerate(files)
        for number, piece in enumerate(pieces(file.path, file.text or ""))
    }
    words = {path: [terms(line) for line in of_file] for path, of_file in lines.items()}
    index = Index(
        {
            key: [*terms(piece.name), *chain.from_iterable(words[path][piece.first - 1 : piece.last])]
            for key, (path, piece) in found.items()
        }
    )
    score_of = {ranked.path: ranked.score for ranked in index.rank(query)}
    own = [_Own(path, piece, score_of[key]) for key, (path, piece) in found.items()]
    return _mixed(own, lines, scores, {term: index.idf(term) for term in set(query)}, own_share, floor), lines


def _lines(files: Sequence[FileText]) -> dict[str, list[str]]:
    return {file.path: split_lines(file.text or "") for file in files}


def _mixed(
    own: Sequence[_Own],
    lines: Mapping[str, Sequence[str]],
    scores: Mapping[str, float],
    weights: Mapping[str, float],
    own_share: float,
    floor: float,
) -> list[Candidate]:
    """Each piece with its worth, best first. `scores` are the files', `weights` the terms'."""
    best_own = max([1e-9, *(one.score for one in own)])
    best_file = max([1e-9, *scores.values()])
    candidates = []
    for path, piece, score, matched, traced in own:
        share = score / best_own + (IN_TRACEBACK if traced else 0.0)
        of_file = (1 - own_share) * scores[path] / best_file
        why = []
        if matched:
            why.append(f"{own_share * score / best_own:+.2f} matches: {', '.join(matched[:_SHOWN_TERMS])}")
        if traced:
            why.append(f"{own_share * IN_TRACEBACK:+.2f} in a traceback")
        candidates.append(
            Candidate(
                path=path,
                piece=piece,
                score=own_share * share + of_file,
                weights=LineWeights(lines[path][piece.first - 1 : piece.last], weights),
                why=(*why, f"{of_file:+.2f} its file"),
            )
        )
    # Okapi's scores can be negative where the files are few: then nothing is a share of the best.
    most = max((candidate.score for candidate in candidates), default=0.0)
    least = floor * most if most > 0 else float("-inf")
    return sorted((c for c in candidates if c.score >= least), key=lambda c: -c.score)


def _traced(signals: Signals, doc: int, piece: Piece) -> bool:
    name = piece.name.rsplit(".", 1)[-1]
    return bool(name) and any(
        called.rsplit(".", 1)[-1] == name if called else piece.first <= line <= piece.last
        for line, called in signals.frames.get(doc, ())
    )
