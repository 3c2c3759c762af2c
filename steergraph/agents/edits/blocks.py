"""Edit blocks: what a model writes, read into `Edit`s, and an `Edit` written back as a block.

Knows the format of configs/edit_format.yaml and the ways in which models bend it. Knows nothing of files: whether an
edit fits a file is for `steergraph.agents.edits.patch` to say.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from pydantic import field_validator, model_validator

from steergraph.base.records import Frozen
from steergraph.configs import load_config

EditKind = Literal["change", "create", "delete"]

_FENCE = re.compile(r"(?:`{3,}|~{3,})[^`]*")
_WRAPPINGS = (
    re.compile(r"#+\s+(.+)"),
    re.compile(r"(?:\*\*|__)(.+?)(?:\*\*|__)(:?)"),
    re.compile(r"(?:file|path|filename)\s*:\s*(.+)", re.IGNORECASE),
)
_QUOTED = re.compile(r"(?:`+([^`]+)`+|\"([^\"`]+)\"|'([^'`]+)'):?")
_IN_PROSE = re.compile(r"`([^`\s]+)`")
_WORD = re.compile(r"[\w.+@-]+")


class Edit(Frozen):
    """One change to one file. `search` and `replace` are whole lines: every one of them ends with a newline.

    change: the lines `search` become the lines `replace` (none: they go). create: the file is `replace`.
    """

    path: str
    kind: EditKind
    search: str = ""
    replace: str = ""

    @field_validator("search", "replace")
    @classmethod
    def _whole_lines(cls, value: str) -> str:
        return value if not value or value.endswith("\n") else value + "\n"

    @model_validator(mode="after")
    def _sections_fit_the_kind(self) -> "Edit":
        if (self.kind == "change") != bool(self.search):
            raise ValueError("a change needs a SEARCH, and nothing else has one")
        if self.kind == "delete" and self.replace:
            raise ValueError("a deletion has no REPLACE")
        return self


class ParsedEdits(Frozen):
    """The edits in the order they were written, and what could not be read, in words for whoever wrote it."""

    edits: tuple[Edit, ...]
    problems: tuple[str, ...]


class _Markers(NamedTuple):
    search: re.Pattern[str]
    divider: re.Pattern[str]
    replace: re.Pattern[str]
    delete: re.Pattern[str]
    number: re.Pattern[str]
    words: dict[str, str]


@cache
def _markers() -> _Markers:
    words: dict[str, str] = load_config("edit_format")

    def line(name: str) -> re.Pattern[str]:
        return re.compile(re.escape(words[name]) + r"\s*")

    before, _, rest = words["passage_line"].partition("{number}")
    behind = rest.partition("{text}")[0]
    number = re.compile(rf"[ \t]*{re.escape(before)}\d+{re.escape(behind)}")
    return _Markers(line("search"), line("divider"), line("replace"), line("delete"), number, words)


def parse_edits(text: str) -> ParsedEdits:
    """Read every edit block of a model's answer. Never raises: what is malformed is a problem, never a guess.

    Tolerated: prose and code fences around blocks, a path in backticks, bold or a heading or with a colon behind it,
    a path that carries over to the file's next blocks, indented blocks, CRLF, white space behind markers, and the line
    numbers of a passage copied along (taken off where every line that is not blank has one).
    """
    return _Parser([line.rstrip("\r") for line in text.split("\n")]).parse()


def render_edit(edit: Edit) -> str:
    """The block that `parse_edits` reads as `edit`, without a final newline.

    Raises ValueError where the format cannot say it: a line of the text is itself a marker, or the path is no path.
    """
    words = _markers().words
    bare = find_path(edit.path, alone=True) == edit.path and not _FENCE.fullmatch(edit.path)
    path = edit.path if bare else f"`{edit.path}`"
    if edit.kind == "delete":
        block = f"{path}\n{words['delete']}"
    else:
        block = f"{path}\n{words['search']}\n{edit.search}{words['divider']}\n{edit.replace}{words['replace']}"
    if parse_edits(block) != ParsedEdits(edits=(edit,), problems=()):
        raise ValueError(f"an edit block cannot say this edit of {edit.path!r}")
    return block


def find_path(line: str, *, alone: bool = False) -> str | None:
    """The path that `line` names, or None. `alone`: no path carries over, so a bare word with a colon is a path too."""
    line = line.strip()
    named = False
    for _ in range(4):
        for wrapping in _WRAPPINGS:
            if match := wrapping.fullmatch(line):
                line, named = "".join(part or "" for part in match.groups()).strip(), True
    if quoted := _QUOTED.fullmatch(line):
        return next(part for part in quoted.groups() if part).strip() or None
    bare = line.rstrip(":").rstrip()
    if bare and not re.search(r"\s|`", bare):
        if "/" in bare or re.search(r"\.\w", bare):
            return bare
        if _WORD.fullmatch(bare) and re.search(r"\w$", bare):
            return bare if named or alone or bare == line else None
        return None
    inside = [word for word in _IN_PROSE.findall(line) if "/" in word or re.search(r"\w\.[A-Za-z]\w*$", word)]
    return inside[0] if len(inside) == 1 else None


class _Parser:
    """One pass over the lines. `section` is None outside blocks."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.edits: list[Edit] = []
        self.problems: list[str] = []
        self.path: str | None = None
        self.outside: list[str] = []  # lines since the last block: where a path line is looked for
        self.section: list[str] | None = None
        self.search: list[str] | None = None
        self.opened = 0
        self.indent = ""
        self.blocks = 0
        self.broken = ""

    def parse(self) -> ParsedEdits:
        for number, line in enumerate(self.lines, 1):
            self._line(number, line)
        self._abandon()
        if not self.blocks and not self.problems:
            words = _markers().words
            self.problems.append(f"no edit block found: write the path, then {words['search']} and the lines to change")
        return ParsedEdits(edits=tuple(self.edits), problems=tuple(self.problems))

    def _line(self, number: int, raw: str) -> None:
        marks = _markers()
        line = raw.removeprefix(self.indent) if self.section is not None else raw
        opener = raw.lstrip(" \t")
        if marks.search.fullmatch(opener) or marks.delete.fullmatch(opener):
            if self.section is not None:
                self.outside = list(self.section)
            self._abandon()
            self.blocks += 1
            self.opened = number
            self.indent = raw[: len(raw) - len(opener)]
            own_path = self._find_path()
            if marks.delete.fullmatch(opener):
                self._delete(own_path)
            else:
                self.path = own_path or self.path
                self.section, self.search, self.broken = [], None, ""
        elif self.section is None:
            if marks.replace.fullmatch(opener):
                self.problems.append(f"line {number}: {marks.words['replace']} closes no block")
                self.outside = []
            else:
                self.outside.append(raw)
        elif marks.divider.fullmatch(line):
            if self.search is not None:
                self.broken = f"has more than one line {marks.words['divider']}, so where SEARCH ends cannot be told"
            else:
                self.search, self.section = self.section, []
        elif marks.replace.fullmatch(line):
            self._close()
        else:
            self.section.append(line)

    def _find_path(self) -> str | None:
        for line in reversed(self.outside):
            if line.strip() and not _FENCE.fullmatch(line.strip()):
                return find_path(line, alone=self.path is None)
        return None

    def _where(self) -> str:
        return f"block {self.blocks} ({f'{self.path}, ' if self.path else ''}line {self.opened})"

    def _abandon(self) -> None:
        if self.section is not None:
            self.problems.append(f"{self._where()} is not closed with {_markers().words['replace']}")
        self.section = None

    def _delete(self, path: str | None) -> None:
        if path is None:
            self.problems.append(f"{self._where()} deletes a file but no path stands on the line above it")
        else:
            self.path = path
            self.edits.append(Edit(path=path, kind="delete"))
        self.outside = []

    def _close(self) -> None:
        search, replace = self.search, self.section or []
        self.section, self.outside = None, []
        if search is None:
            self.broken = f"has no line {_markers().words['divider']}"
        if self.path is None:
            self.broken = self.broken or "has no path on the line above it"
        if self.broken or search is None or self.path is None:
            self.problems.append(f"{self._where()} {self.broken}")
            return
        creates = not any(line.strip() for line in search)
        old, searched = ([], False) if creates else _without_numbers(search)
        new, replaced = _without_numbers(replace)
        if not creates and not any(line.strip() for line in old):
            self.problems.append(f"{self._where()} searches for blank lines only: copy a line with text too")
        elif searched and not replaced and any(_markers().number.match(line) for line in replace):
            self.problems.append(f"{self._where()} has line numbers in a part of REPLACE: write the lines without them")
        else:
            kind: EditKind = "create" if creates else "change"
            self.edits.append(Edit(path=self.path, kind=kind, search=_join(old), replace=_join(new)))


def _without_numbers(lines: Sequence[str]) -> tuple[list[str], bool]:
    """The lines without a passage's numbers, where all that are not blank have one; and whether they had."""
    number, stripped, found = _markers().number, list(lines), False
    while any(line.strip() for line in stripped):
        if not all(number.match(line) for line in stripped if line.strip()):
            break
        stripped, found = [number.sub("", line, count=1) for line in stripped], True
    return stripped, found


def _join(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
