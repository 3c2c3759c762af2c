"""A file in pieces that make sense alone: whole functions, classes, and the statements between them.

Knows Python's grammar; a file that does not parse, or is not Python, is cut into windows of lines. Knows nothing of
scores or budgets. Pieces may contain one another (a class and its methods): whoever picks must not pick both.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_OPENS = re.compile(r"\s*(?:async\s+def|def|class)\s+\w")
_HEAD = 12
"""Lines that a signature may take."""
_IMPORTS = 30
_WINDOW = 40
"""Lines of a piece where there is no grammar to go by."""


@dataclass(frozen=True)
class Piece:
    """Lines `first` to `last` (1-based, both included) of a file, and the dotted name they define, if any."""

    first: int
    last: int
    name: str = ""

    def overlaps(self, other: "Piece") -> bool:
        return self.first <= other.last and other.first <= self.last


def split_lines(text: str) -> list[str]:
    """The lines of `text` as an editor numbers them, without their ends; form feeds and the like end no line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def pieces(path: str, text: str) -> list[Piece]:
    """The pieces of a file, by first line; [] for an empty one."""
    lines = split_lines(text)
    if not any(line.strip() for line in lines):
        return []
    tree = _parse(text) if path.endswith((".py", ".pyi")) else None
    if tree is None:
        return _windows(lines, 1, len(lines))
    found = list(_of_body(tree.body, lines, 1, len(lines), ""))
    return sorted(set(found), key=lambda piece: (piece.first, -piece.last, piece.name))


def enclosing(lines: Sequence[str], first: int) -> Piece | None:
    """The signature of the class or function that line `first` (1-based) is inside of, if any: the nearest line above
    that is indented less and opens one, to the end of its head. Indentation alone decides, so a part of one will do.
    """
    depth = _depth(lines[first - 1])
    for at in range(first - 1, 0, -1):
        line = lines[at - 1]
        if not line.strip() or _depth(line) >= depth or line.lstrip().startswith((")", "]", "}")):
            continue
        if _OPENS.match(line):
            head = range(at, min(at + _HEAD, len(lines) + 1))
            end = next((n for n in head if lines[n - 1].rstrip().endswith(":")), at)
            return Piece(at, end) if end < first else None
        depth = _depth(line)
    return None


def imports(lines: Sequence[str]) -> Piece | None:
    """The lines from a file's first import to its last before any definition, at most 30 of them; None without any."""
    stop = next((n for n, line in enumerate(lines, 1) if _OPENS.match(line)), len(lines) + 1)
    found = [n for n, line in enumerate(lines[: stop - 1], 1) if line.startswith(("import ", "from "))]
    if not found:
        return None
    last = found[-1]
    if lines[last - 1].rstrip().endswith("("):
        last = next((n for n in range(last, stop) if lines[n - 1].strip() == ")"), last)
    return Piece(found[0], min(last, found[0] + _IMPORTS - 1))


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _of_body(body: Sequence[ast.stmt], lines: Sequence[str], first: int, last: int, outer: str) -> Iterator[Piece]:
    """Pieces of a module's or class's body that stands on lines `first` to `last`."""
    at = first
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        end = node.end_lineno or node.lineno
        if start < at:  # two statements on one line
            continue
        yield from _windows(lines, at, start - 1)
        name = f"{outer}{node.name}"
        yield Piece(start, end, name)
        if isinstance(node, ast.ClassDef):
            inner = list(_of_body(node.body, lines, start, end, f"{name}."))
            if any(child.name for child in inner):
                yield from inner
        at = end + 1
    yield from _windows(lines, at, last)


def _windows(lines: Sequence[str], first: int, last: int) -> list[Piece]:
    """Lines `first` to `last` without blank edges, in windows; a window ends at a blank line if one is near."""
    found = []
    while first <= last:
        if not lines[first - 1].strip():
            first += 1
            continue
        end = min(last, first + _WINDOW - 1)
        if end < last:
            blank = next((n for n in range(end, first + _WINDOW // 2, -1) if not lines[n - 1].strip()), None)
            end = blank or end
        following = end + 1
        while not lines[end - 1].strip():
            end -= 1
        found.append(Piece(first, end))
        first = following
    return found
