"""The lines of a failing test's output that tell most: the exception's line, then the frames in the repository.

Knows what unittest, pytest, doctest and a plain traceback look like. Knows nothing of who reads it.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

_MOST_FRAMES = 3
_LONGEST = 200
_UNITTEST = re.compile(r"(FAIL|ERROR): .+")
_TRACEBACK = re.compile(r"(\s*)(?:Exception Group )?Traceback \(most recent call last\):")
_FRAME = re.compile(r'\s+File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?')
_CHAINED = re.compile(r"(During handling of|The above exception was)\b.*")
_PYTEST_HEADING = re.compile(r"_{3,} .+ _{3,}$")
_PYTEST_END = re.compile(r"_{3,} .+ _{3,}$|-+ Captured .+ -+$|=+ .+ =+$")
_PYTEST_SAID = re.compile(r"E\s{2,}(?P<said>\S.*)")
_PYTEST_FRAME = re.compile(r"(?P<path>[^\s:]+\.pyi?):(?P<line>\d+): (?:in (?P<name>\S+)|[\w.]*)")
_DOCTEST_OF_PYTEST = re.compile(r"\S+:\d+: DocTestFailure")
_DOCTEST_EXAMPLE = re.compile(r"\d{3,} *>>> ")
_DOCTEST_PLACE = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')
_ERROR = re.compile(r"\s*([\w.]*(Error|Exception|Failure|Exit|Warning)\b:?.*)")
_SUMMARY = re.compile(r"(FAILED|ERROR)\b.*")


class _Frame(NamedTuple):
    path: str
    line: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" + (f" in {self.name}" if self.name else "")


def telling_line(output: str, place: str) -> str:
    """What went wrong in the first test that failed, in one line: "AssertionError: 4 != 3 at tests/test_a.py:7 in
    test_it". Of frames those in the repository, which the test saw at `place`; the innermost first. "" where the output
    is empty."""
    lines = output.rstrip().split("\n")
    if "Exception Group Traceback" in output:  # it draws a margin along its lines
        lines = [re.sub(r"^(\s*)[|+] ", r"\1", line) for line in lines]
    for reader in (_doctest, _pytest, _traceback):
        if found := reader(lines):
            said, frames = found
            inside = [own for frame in reversed(frames) if (own := _inside(frame, place))]
            at = ", ".join(map(str, list(dict.fromkeys(inside))[:_MOST_FRAMES]))
            return f"{said[:_LONGEST]} at {at}" if at else said
    words = [line.strip() for line in lines if line.strip()]
    errors = [line for line in words if _ERROR.fullmatch(line) or _SUMMARY.fullmatch(line)]
    return (errors or words or [""])[-1]


_Found = tuple[str, list[_Frame]] | None


def _traceback(lines: Sequence[str]) -> _Found:
    """The first traceback, of unittest's the first below a test's name; of a chain the last, which is what came out."""
    start = next((at for at, line in enumerate(lines) if _UNITTEST.fullmatch(line)), 0)
    found: _Found = None
    while (head := _next(lines, start, _TRACEBACK)) is not None:
        indent = len(lines[head]) - len(lines[head].lstrip())
        end, frames = head + 1, list[_Frame]()
        while end < len(lines) and (not lines[end].strip() or lines[end][indent : indent + 1] in (" ", "")):
            if frame := _FRAME.match(lines[end]):
                frames.append(_Frame(frame["path"], frame["line"], frame["name"]))
            end += 1
        if end == len(lines):
            return found
        found = lines[end].strip(), frames
        chained = next((at for at in range(end + 1, len(lines)) if _TRACEBACK.match(lines[at])), len(lines))
        if not any(_CHAINED.fullmatch(line.strip()) for line in lines[end + 1 : chained]):
            return found
        start = chained
    return found


def _pytest(lines: Sequence[str]) -> _Found:
    """Of the first test that failed the lines that pytest marks with E, of a chain the last, with the places before
    them and right after."""
    heading = _next(lines, 0, _PYTEST_HEADING) or 0
    stop = _next(lines, heading + 1, _PYTEST_END)
    chained = [at for at in range(heading, stop or len(lines)) if _CHAINED.fullmatch(lines[at])]
    start = chained[-1] if chained else heading
    first = _next(lines[:stop], start, _PYTEST_SAID)
    if first is None:
        return None
    said, end = [], first
    while end < len(lines) and (marked := _PYTEST_SAID.fullmatch(lines[end])):
        said.append(marked["said"])
        end += 1
    after = next((at for at in range(end, min(end + 4, len(lines))) if _PYTEST_FRAME.match(lines[at])), end - 1)
    frames = [frame for line in lines[start : after + 1] if (frame := _PYTEST_FRAME.match(line))]
    return " / ".join(said[:2]), [_Frame(each["path"], each["line"], each["name"]) for each in frames]


def _doctest(lines: Sequence[str]) -> _Found:
    """The first example of doctest that failed."""
    parts = {"Failed": list[str](), "Expected": list[str](), "Got": list[str](), "Exception": list[str]()}
    part = parts["Failed"]
    if (end := _next(lines, 0, _DOCTEST_OF_PYTEST)) is not None:
        first = next((at for at in range(end, -1, -1) if _DOCTEST_EXAMPLE.match(lines[at])), end)
        rest = [_DOCTEST_EXAMPLE.sub("    ", lines[first]), *lines[first + 1 : end]]
        place = _PYTEST_FRAME.match(lines[end])
    else:
        failed = _next(lines, 1, re.compile(r"Failed example:"))
        place = _DOCTEST_PLACE.match(lines[failed - 1]) if failed else None
        rest = list(lines[failed + 1 :]) if failed else []
    if not place:
        return None
    frames = [_Frame(place["path"], place["line"], place["name"])]
    for line in rest:
        if line and not line.startswith(" "):
            name = line.split()[0].rstrip(":")
            if name not in parts or parts[name]:
                break
            part = parts[name]
        elif line.strip():
            part.append(line)
    example = " ".join(line.strip() for line in parts["Failed"])
    if parts["Exception"]:
        return f"{parts['Exception'][-1].strip()} from {example}", frames
    expected, got = (" ".join(line.strip() for line in parts[name]) or "nothing" for name in ("Expected", "Got"))
    return f"{example} gives {got}, not {expected}", frames


def _inside(frame: _Frame, place: str) -> _Frame | None:
    """`frame` with its path in the repository; None where it lies in none of its files."""
    path = PurePosixPath(frame.path)
    if path.is_absolute() and not path.is_relative_to(place):
        return None
    inside = path.relative_to(place) if path.is_absolute() else path
    if inside.parts[:1] == ("..",) or "site-packages" in inside.parts or frame.path.startswith("<"):
        return None
    return frame._replace(path=str(inside))


def _next(lines: Sequence[str], start: int, pattern: re.Pattern[str]) -> int | None:
    return next((at for at in range(start, len(lines)) if pattern.match(lines[at])), None)
