"""Where in a file an edit's SEARCH lines stand: exactly, by white space, as a part of a line, or by nearest lines, each
near by itself; never by a guess.

Works on lines without their line endings. Knows nothing of paths, diffs or how the edit was written.
"""

import difflib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from steergraph.agents.edits.merge import is_part, same

THRESHOLD = 0.85
"""The nearest lines are taken from this similarity on (0..1, weighted by line length) ..."""
MARGIN = 0.1
"""... if the second nearest place is at least this much worse."""
_LINE_THRESHOLD = 0.5
_OWN_LINE = 0.7
"""So near every single line has to be, however near the rest: one that is not stands for nothing in the file."""
_SHOWN_THRESHOLD = 0.6
_LEAST_CHARACTERS = 10
_MOST_SEARCH_LINES = 200
_MOST_FILE_LINES = 20_000
_LONG_LINE = 500
_MOST_EFFORT = 40_000
"""Comparisons of two lines, a full one counted as four: about a second. What would take more is not found."""

How = Literal["exact", "whitespace", "part", "similar"]
Reindent = Callable[[str], str | None]
"""Turns the indentation of a line of REPLACE into the file's; None where that cannot be told."""


class Place(NamedTuple):
    """Lines `start` to `stop` (0-based, half open) of the file stand for SEARCH lines `first` to `last` (half open)."""

    start: int
    stop: int
    first: int
    last: int
    how: How
    reindent: Reindent


def locate(search: Sequence[str], lines: Sequence[str]) -> Place | str:
    """The one place where `search` stands in `lines`, or why there is none, in words for whoever wrote `search`."""
    whole = list(search)
    exact = _starts(whole, list(lines))
    if len(exact) == 1:
        return Place(exact[0], exact[0] + len(whole), 0, len(whole), "exact", _same)
    if exact:
        return _ambiguous(exact)
    first, last = _without_blank_edges(whole)
    core = whole[first:last]
    if not core:
        return "SEARCH holds only blank lines"
    bare = _starts([line.strip() for line in core], [line.strip() for line in lines])
    fitting = [(start, reindent) for start in bare if (reindent := _reindenter(core, lines[start:]))]
    if len(fitting) == 1:
        start, reindent = fitting[0]
        return Place(start, start + len(core), first, last, "whitespace", reindent)
    if fitting:
        return _ambiguous([start for start, _ in fitting])
    if len(bare) > 1:
        return _ambiguous(bare)
    if bare:
        return f"the indentation of SEARCH does not fit line{_range(bare[0], len(core))}: copy the lines as they are"
    if len(core) == 1 and (part := _part(core[0], lines)):
        return part if isinstance(part, str) else part._replace(first=first, last=last)
    return _nearest(core, first, last, lines)


def untouched(search: Sequence[str], lines: Sequence[str], kept: Sequence[int | None]) -> Place | str:
    """As `locate`, of those places alone that no edit has touched. `kept` says which line of the first text each is."""
    size = len(search)
    starts = [
        start
        for start in _starts(list(search), list(lines))
        if (first := kept[start]) is not None and list(kept[start : start + size]) == list(range(first, first + size))
    ]
    return Place(starts[0], starts[0] + size, 0, size, "exact", _same) if len(starts) == 1 else locate(search, lines)


def at_line(search: Sequence[str], lines: Sequence[str], at: int) -> Place | str:
    """The place of a SEARCH that is known to stand at line `at` (1-based), or why it does not."""
    start, stop = at - 1, at - 1 + len(search)
    if list(lines[start:stop]) != list(search):
        return f"SEARCH does not stand at line {at}"
    return Place(start, stop, 0, len(search), "exact", _same)


def _part(wanted: str, lines: Sequence[str]) -> Place | str | None:
    """The one line that `wanted` is a proper part of."""
    text = wanted.strip()
    holding = [k for k, line in enumerate(lines) if text in line]
    parts = [k for k in holding if is_part(text, lines[k].strip())]
    if not parts:
        return None
    if len(parts) > 1:
        return _ambiguous(parts, "SEARCH is a part of what stands")
    (start,) = parts
    return Place(start, start + 1, 0, 1, "part", _reindenter([wanted], [lines[start]]) or _same)


def _nearest(core: Sequence[str], first: int, last: int, lines: Sequence[str]) -> Place | str:
    scores = _similarities(core, lines)
    if not scores:
        return "SEARCH is not in the file"
    ranked = sorted(scores, key=lambda start: -scores[start])
    best = ranked[0]
    shown = "; ".join(f"`{line[:100]}`" for line in lines[best : best + min(len(core), 3)])
    near = f"SEARCH is not in the file; nearest is line{_range(best, len(core))}: {shown}"
    if scores[best] < THRESHOLD or sum(len(line.strip()) for line in core) < _LEAST_CHARACTERS:
        return near
    rivals = [start for start in ranked[1:] if scores[start] > scores[best] - MARGIN]
    if rivals:
        return _ambiguous(sorted([best, *rivals]), "SEARCH is not in the file, but is like what stands")
    reindent = _reindenter(core, lines[best:])
    if reindent is None or not all(map(_alike, core, lines[best:])):
        return near
    return Place(best, best + len(core), first, last, "similar", reindent)


def _alike(wanted: str, line: str) -> bool:
    mine, theirs = " ".join(wanted.split()), " ".join(line.split())
    if same(mine, theirs) or is_part(mine, theirs):
        return True
    return difflib.SequenceMatcher(None, theirs, mine, autojunk=False).ratio() >= _OWN_LINE


def _starts(search: Sequence[str], lines: Sequence[str]) -> list[int]:
    n = len(search)
    return [i for i in range(len(lines) - n + 1) if lines[i] == search[0] and lines[i : i + n] == search] if n else []


def _without_blank_edges(lines: Sequence[str]) -> tuple[int, int]:
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return (filled[0], filled[-1] + 1) if filled else (0, 0)


def _similarities(core: Sequence[str], lines: Sequence[str]) -> dict[int, float]:
    """Similarity by start line, of those starts that come near at all. Heaviest lines are compared first, so that most
    starts are given up after one comparison."""
    if len(core) > _MOST_SEARCH_LINES or len(lines) > _MOST_FILE_LINES:
        return {}
    wanted = [" ".join(line.split()) for line in core]
    having = [" ".join(line.split()) for line in lines]
    weights = [len(line) + 1 for line in wanted]
    total = sum(weights)
    heaviest_first = sorted(range(len(core)), key=lambda i: -weights[i])
    matchers: dict[str, difflib.SequenceMatcher[str]] = {}
    known: dict[tuple[str, str], float] = {}
    effort = 0

    def ratio(want: str, have: str) -> float:
        nonlocal effort
        if want == have:
            return 1.0
        if not want or not have or len(want) > _LONG_LINE or len(have) > _LONG_LINE:
            return 0.0
        if (want, have) not in known:
            matcher = matchers.setdefault(want, difflib.SequenceMatcher(None, "", want, autojunk=False))
            matcher.set_seq1(have)
            far = matcher.real_quick_ratio() < _LINE_THRESHOLD or matcher.quick_ratio() < _LINE_THRESHOLD
            known[want, have] = 0.0 if far else matcher.ratio()
            effort += 1 if far else 4
        return known[want, have]

    scores = {}
    for start in range(len(lines) - len(core) + 1):
        lost = 0.0
        if effort > _MOST_EFFORT:
            return {}
        for i in heaviest_first:
            value = ratio(wanted[i], having[start + i])
            lost += weights[i] * (1 - value if value >= _LINE_THRESHOLD else 1)
            if lost > total * (1 - _SHOWN_THRESHOLD):
                break
        else:
            scores[start] = 1 - lost / total
    return scores


def _reindenter(search: Sequence[str], lines: Sequence[str]) -> Reindent | None:
    """One rule that turns every indentation of `search` into the one at the same place of `lines`, or None."""
    pairs = {(_indent(s), _indent(f)) for s, f in zip(search, lines, strict=False) if s.strip() and f.strip()}
    if not pairs or all(mine == theirs for mine, theirs in pairs):
        return _same
    mine, theirs = next(iter(pairs))
    more = theirs[: len(theirs) - len(mine)]
    if all(f == more + s for s, f in pairs):
        return lambda indent: more + indent
    less = mine[: len(mine) - len(theirs)]
    if all(s == less + f for s, f in pairs):
        return lambda indent: indent[len(less) :] if indent.startswith(less) else None
    return _scaler(pairs)


def _scaler(pairs: set[tuple[str, str]]) -> Reindent | None:
    """The rule where one indents with another unit: tabs for spaces, or two spaces for four."""
    mine, theirs = {char for s, _ in pairs for char in s}, {char for _, f in pairs for char in f}
    if len(mine) != 1 or len(theirs) != 1 or any(bool(s) != bool(f) for s, f in pairs):
        return None
    factors = {Fraction(len(f), len(s)) for s, f in pairs if s}
    if len(factors) != 1:
        return None
    factor, unit, char = factors.pop(), mine.pop(), theirs.pop()

    def scale(indent: str) -> str | None:
        width = len(indent) * factor
        return char * int(width) if set(indent) <= {unit} and width.denominator == 1 else None

    return scale


def _same(indent: str) -> str:
    return indent


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _range(start: int, count: int) -> str:
    return f" {start + 1}" if count == 1 else f"s {start + 1}-{start + count}"


def _ambiguous(starts: Sequence[int], what: str = "SEARCH stands") -> str:
    shown = [str(start + 1) for start in starts[:6]] + ([f"{len(starts) - 6} more"] if len(starts) > 6 else [])
    return f"{what} at lines {', '.join(shown[:-1])} and {shown[-1]}: copy more lines around the one you mean"
