"""Passages packed into a token budget, best first, and a record of what was left out.

Knows scores and a `count` function; knows nothing of models or repositories. The budget is never exceeded, whatever
`count` returns: the packed text as a whole is counted at the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from steergraph.base.records import Frozen
from steergraph.configs.prompts import format_passage
from steergraph.retrieval.passages import Piece, enclosing, imports

Count = Callable[[str], int]
SEPARATOR = "\n\n"
"""Between two passages of a context."""

_GIVE_UP_AFTER = 40
"""Candidates in a row that do not fit."""
_SHARE = 3
_ENOUGH = 250
"""One passage takes at most a third of the budget, or this many tokens where a third is less, so that a small window
still sees more than one place."""
_MIN_LINES = 3
"""A passage trimmed to less says nothing."""
_RECORDED = 20


class Passage(Frozen):
    """Lines `first_line` to `last_line` (1-based, both included) of a file, as the prompt shows them."""

    path: str
    first_line: int
    last_line: int
    score: float
    text: str
    tokens: int
    why: tuple[str, ...] = ()
    """What made the score, a line each."""


class LeftOut(Frozen):
    """What was not packed, or not whole, and why."""

    path: str
    first_line: int | None
    last_line: int | None
    why: str


@dataclass(frozen=True)
class Candidate:
    """A piece that may be packed. `weights` says how much each of its lines matches the query."""

    path: str
    piece: Piece
    score: float
    weights: Sequence[float]
    why: tuple[str, ...] = ()


def pack(
    candidates: Sequence[Candidate], lines: Mapping[str, Sequence[str]], budget: int, count: Count
) -> tuple[tuple[Passage, ...], int, tuple[LeftOut, ...]]:
    """The passages that fit `budget` tokens, best first; the tokens of them joined by SEPARATOR; what was left out.

    `candidates` come best first; `lines` are their files' lines. A candidate that overlaps a packed one is passed over
    in silence: its best part is there. One longer than a passage may be (see _SHARE) is trimmed to the window of its
    lines that matches the query best; one that is only too long for what is left is skipped.
    """
    packed: list[Passage] = []
    taken: dict[str, list[Piece]] = {}
    left_out: list[LeftOut] = []
    room, failed = budget, 0
    longest = min(budget, max(budget // _SHARE, _ENOUGH))
    joint = max(0, count(SEPARATOR))
    for candidate in candidates:
        path, piece = candidate.path, candidate.piece
        if failed >= _GIVE_UP_AFTER or room <= 0:
            break
        if any(piece.overlaps(other) for other in taken.get(path, ())):
            continue
        passage = _passage(candidate, piece, lines[path], count)
        if passage.tokens > longest:
            trimmed = _trim(candidate, lines[path], min(room, longest), passage.tokens, count)
            why = f"{passage.tokens} tokens, where one passage may take {longest}"
            if trimmed:
                why += f"; trimmed to lines {trimmed.first_line}-{trimmed.last_line}"
            left_out.append(_left_out(candidate, why))
            if trimmed is None:
                failed += 1
                continue
            passage = trimmed
        elif passage.tokens > room:
            left_out.append(_left_out(candidate, f"{passage.tokens} tokens, {room} were left"))
            failed += 1
            continue
        packed.append(passage)
        taken.setdefault(path, []).append(Piece(passage.first_line, passage.last_line))
        room -= passage.tokens + joint
        failed = 0
    packed = _with_surroundings(packed, taken, lines, room, count)
    # Parts that fit one by one can still be too long together: tokenizers are not additive.
    total = _total(packed, count)
    while packed and total > budget:
        dropped = packed.pop()
        left_out.append(
            LeftOut(
                path=dropped.path,
                first_line=dropped.first_line,
                last_line=dropped.last_line,
                why=f"{total} tokens in all, {budget} allowed",
            )
        )
        total = _total(packed, count)
    return tuple(packed), total, tuple(left_out[:_RECORDED])


def _with_surroundings(
    packed: Sequence[Passage],
    taken: Mapping[str, Sequence[Piece]],
    lines: Mapping[str, Sequence[str]],
    room: int,
    count: Count,
) -> list[Passage]:
    """`packed`, and before each passage the signature it is inside of and its file's imports, where these are not shown
    yet and the budget has room left. What ranked by itself is never given up for them."""
    shown = {path: list(pieces) for path, pieces in taken.items()}
    before: dict[int, list[Passage]] = {}
    joint = max(0, count(SEPARATOR))
    for why in ("the signature around it", "its file's imports"):
        for at, passage in enumerate(packed):
            of_file = lines[passage.path]
            piece = imports(of_file) if "imports" in why else enclosing(of_file, passage.first_line)
            if piece is None or any(piece.overlaps(other) for other in shown[passage.path]):
                continue
            found = _passage(Candidate(passage.path, piece, passage.score, (), (why,)), piece, of_file, count)
            if found.tokens + joint <= room:
                before.setdefault(at, []).append(found)
                shown[passage.path].append(piece)
                room -= found.tokens + joint
    return [one for at, passage in enumerate(packed) for one in (*reversed(before.get(at, [])), passage)]


def _passage(candidate: Candidate, piece: Piece, lines: Sequence[str], count: Count) -> Passage:
    text = format_passage(candidate.path, piece.first, lines[piece.first - 1 : piece.last])
    return Passage(
        path=candidate.path,
        first_line=piece.first,
        last_line=piece.last,
        score=candidate.score,
        text=text,
        tokens=count(text),
        why=candidate.why,
    )


def _trim(candidate: Candidate, lines: Sequence[str], room: int, tokens: int, count: Count) -> Passage | None:
    """The window of the candidate's lines that matches best among those of a size that fits `room`."""
    whole = candidate.piece.last - candidate.piece.first + 1
    size = min(whole - 1, room * whole // max(1, tokens))
    while size >= _MIN_LINES:
        start = best_window(candidate.weights, size)
        first = candidate.piece.first + start
        passage = _passage(candidate, Piece(first, first + size - 1), lines, count)
        if passage.tokens <= room:
            return passage
        size = min(size - 1, size * 9 // 10)
    return None


def best_window(weights: Sequence[float], size: int) -> int:
    """Where the `size` neighbouring weights with the greatest sum start; of equals the one nearest its weights' middle,
    so that what matched has lines around it."""
    sums = [sum(weights[:size])]
    for start in range(1, len(weights) - size + 1):
        sums.append(sums[-1] - weights[start - 1] + weights[start + size - 1])
    best = max(sums)
    equal = [start for start, total in enumerate(sums) if total >= best - 1e-9 * max(1.0, abs(best))]
    return equal[len(equal) // 2]


def _total(packed: Sequence[Passage], count: Count) -> int:
    return count(SEPARATOR.join(passage.text for passage in packed)) if packed else 0


def _left_out(candidate: Candidate, why: str) -> LeftOut:
    return LeftOut(path=candidate.path, first_line=candidate.piece.first, last_line=candidate.piece.last, why=why)
