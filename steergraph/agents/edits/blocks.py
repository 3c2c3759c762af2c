"""Edit blocks: what a model writes, read into `Edit`s, and an `Edit` written back as a block.

Knows the format of configs/edit_format.yaml and the ways in which models bend it. Reads no files: whether an edit fits
one is for `steergraph.agents.edits.patch` to say.
"""

import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Literal, NamedTuple

from pydantic import field_validator, model_validator

from steergraph.agents.edits.headers import FENCE, bare_path, path_near, paths_near
from steergraph.base.records import Frozen
from steergraph.configs import load_config

EditKind = Literal["change", "create", "delete"]

Standing = Callable[[str, str], Literal["", "nearly", "exactly"]]
"""How a file (by its path) has these lines, for a SEARCH; with none, whether it could be created."""


class Edit(Frozen):
    """One change to one file. `search` and `replace` are whole lines: every one of them ends with a newline.

    change: the lines `search` become the lines `replace` (none: they go). create: the file is `replace`.
    """

    path: str
    kind: EditKind
    search: str = ""
    replace: str = ""
    at: int | None = None
    """The line (1-based) where SEARCH stands, where that is known, in the file as the edits before it left it."""

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
    notes: tuple[str, ...] = ()
    """What was left aside without being wrong."""


# Markers by their shape: models write other lengths, other letter cases and more behind the word than they were shown.
_SEARCH = re.compile(r"<{3,}\s*[\[`*]*(?:search|original|head|old|find)\b[\]`*]*:?\s*(.*)", re.IGNORECASE)
_DELETE = re.compile(r"<{4,}\s*delete\b:?\s*(.*)", re.IGNORECASE)
_DIVIDER = re.compile(r"={4,}\s*")
_REPLACE = re.compile(r">{4,}\s*(?:(?:replace|updated?|new|head)\b.*)?|>{7}\s.*", re.IGNORECASE)


class _Markers(NamedTuple):
    number: re.Pattern[str]
    words: dict[str, str]


@cache
def _markers() -> _Markers:
    words: dict[str, str] = load_config("edit_format")
    before, _, rest = words["passage_line"].partition("{number}")
    behind = rest.partition("{text}")[0]
    return _Markers(re.compile(rf"[ \t]*{re.escape(before)}\d+{re.escape(behind)}"), words)


def parse_edits(text: str, paths: Collection[str] = (), stands: Standing | None = None) -> ParsedEdits:
    """Read every edit block of a model's answer. Never raises: what is malformed is a problem, never a guess.

    Args:
        text: the answer.
        paths: the repository's files. Whatever near a block names exactly one of them is the block's path.
        stands: asked which of several dividers is meant, in a file that has such lines itself (a heading, say).

    Tolerated: prose and code fences around blocks, a path in any dress (`headers`), a path that carries over to the
    file's next blocks, markers of other lengths and letter cases with words behind them, a block that only its fence
    closes, indented blocks, CRLF, white space behind markers, the same block said twice, and the line numbers of a
    passage copied along (taken off where every line that is not blank has one).
    """
    return _Parser([line.rstrip("\r") for line in text.split("\n")], paths, stands).parse()


def has_blocks(text: str) -> bool:
    """Whether an answer has a line that opens an edit block."""
    lines = (line.strip() for line in text.split("\n"))
    return any(_SEARCH.fullmatch(line) or _DELETE.fullmatch(line) for line in lines)


def render_edit(edit: Edit) -> str:
    """The block that `parse_edits` reads as `edit`, without a final newline.

    Raises ValueError where the format cannot say it: a line of the text is itself a marker, or the path is no path.
    """
    words = _markers().words
    path = edit.path if bare_path(edit.path) else f"`{edit.path}`"
    if edit.kind == "delete":
        block = f"{path}\n{words['delete']}"
    else:
        block = f"{path}\n{words['search']}\n{edit.search}{words['divider']}\n{edit.replace}{words['replace']}"
    if parse_edits(block) != ParsedEdits(edits=(edit,), problems=()):
        raise ValueError(f"an edit block cannot say this edit of {edit.path!r}")
    return block


class _Parser:
    """One pass over the lines. `section` is None outside blocks."""

    def __init__(self, lines: Sequence[str], paths: Collection[str], stands: Standing | None) -> None:
        self.lines = lines
        self.paths = paths
        self.stands = stands
        self.edits: list[Edit] = []
        self.problems: list[str] = []
        self.path: str | None = None
        self.outside: list[str] = []  # lines since the last block: where a path line is looked for
        self.section: list[str] | None = None
        self.opened = 0
        self.indent = ""
        self.fenced = False
        self.blocks = 0
        self.above: tuple[str, list[str]] = ("", [])  # what stands behind the opening marker, and the lines above it

    def parse(self) -> ParsedEdits:
        for number, line in enumerate(self.lines, 1):
            self._line(number, line)
        self._abandon()
        if not self.blocks and not self.problems:
            words = _markers().words
            self.problems.append(f"no edit block found: write the path, then {words['search']} and the lines to change")
        return ParsedEdits(edits=tuple(dict.fromkeys(self.edits)), problems=tuple(self.problems))

    def _line(self, number: int, raw: str) -> None:
        line = raw.removeprefix(self.indent) if self.section is not None else raw
        opener = raw.lstrip(" \t")
        if opening := _SEARCH.fullmatch(opener) or _DELETE.fullmatch(opener):
            self._abandon(another=True)
            self.blocks += 1
            self.opened = number
            self.indent = raw[: len(raw) - len(opener)]
            self.fenced = sum(bool(FENCE.fullmatch(line.strip())) for line in self.outside) % 2 == 1
            own_path = path_near(opening[1], self.outside, self.paths, alone=self.path is None)
            self.above = opening[1], self.outside
            if _DELETE.fullmatch(opener):
                self._delete(own_path)
            else:
                self.path = own_path or self.path
                self.section = []
        elif self.section is None:
            if _REPLACE.fullmatch(opener):
                self.problems.append(f"line {number}: {_markers().words['replace']} closes no block")
                self.outside = []
            else:
                self.outside.append(raw)
        elif _REPLACE.fullmatch(line):
            self._close(self.section)
        else:
            self.section.append(line)

    def _where(self) -> str:
        return f"block {self.blocks} ({f'{self.path}, ' if self.path else ''}line {self.opened})"

    def _abandon(self, another: bool = False) -> None:
        """The end of the text, or another block, comes before the block's last marker: its fence may have closed it."""
        section, self.section = self.section, None
        if section is None:
            return
        ended = len(section)
        if another:  # what stands right above the next block opens that one's fence
            while ended and (not section[ended - 1].strip() or FENCE.fullmatch(section[ended - 1].strip())):
                ended -= 1
        fences = [k for k, line in enumerate(section[:ended]) if re.fullmatch(r"\s*(?:`{3,}|~{3,})\s*", line)]
        if self.fenced and len(fences) == 1 and any(_DIVIDER.fullmatch(line) for line in section[: fences[0]]):
            self._close(section[: fences[0]])
            self.outside = section[fences[0] :]
            return
        self.outside = section
        self.problems.append(f"{self._where()} is not closed with {_markers().words['replace']}")

    def _delete(self, path: str | None) -> None:
        if path is None:
            self.problems.append(f"{self._where()} deletes a file but no path stands on the line above it")
        elif len(near := paths_near(*self.above, self.paths)) > 1:
            self._which("deletes", near)
        else:
            self.path = near[0] if near else path
            self.edits.append(Edit(path=self.path, kind="delete"))
        self.outside = []

    def _create(self, path: str, text: str) -> None:
        near = paths_near(*self.above, self.paths)
        new = [one for one in near if one not in self.paths]
        if len(near) > 1 and len(new) != 1:
            self._which("makes", near)
        else:
            self.path = new[0] if len(near) > 1 else path
            self.edits.append(Edit(path=self.path, kind="create", replace=text))

    def _which(self, does: str, near: Sequence[str]) -> None:
        said = f"{does} a file, and it can't be told which: {', '.join(near[:4])} stand near it"
        self.problems.append(f"{self._where()} {said}")

    def _close(self, section: list[str]) -> None:
        self.section, self.outside = None, []
        divider = self._divider(section)
        if isinstance(divider, str):
            self.problems.append(f"{self._where()} {divider}")
            return
        if self.path is None:
            self.problems.append(f"{self._where()} has no path on the line above it")
            return
        search, replace = section[:divider], section[divider + 1 :]
        creates = not any(line.strip() for line in search)
        old, searched = ([], False) if creates else without_numbers(search)
        new, replaced = without_numbers(replace)
        if not creates and not any(line.strip() for line in old):
            self.problems.append(f"{self._where()} searches for blank lines only: copy a line with text too")
        elif searched and not replaced and any(_markers().number.match(line) for line in replace):
            self.problems.append(f"{self._where()} has line numbers in a part of REPLACE: write the lines without them")
        elif creates:
            self._create(self.path, join_lines(new))
        else:
            self.edits.append(Edit(path=self.path, kind="change", search=join_lines(old), replace=join_lines(new)))

    def _divider(self, section: Sequence[str]) -> int | str:
        """The line of `section` that parts SEARCH from REPLACE, or what is wrong.

        Of several, the one whose SEARCH stands in the file; where that isn't known, the one written as it was shown.
        """
        word = _markers().words["divider"]
        places = [k for k, line in enumerate(section) if _DIVIDER.fullmatch(line)]
        if len(places) > 1 and self.stands is not None and self.path is not None:
            how = {k: self.stands(self.path, join_lines(without_numbers(section[:k])[0])) for k in places}
            standing = [k for k in places if how[k] == "exactly"]
            if standing and any(how[k] for k in places if k > standing[-1]):
                return f"has more than one line {word}, and SEARCH up to the later one is not quite in the file"
            places = standing[-1:] or places  # of a SEARCH that stands every beginning stands too
        if len(places) > 1:
            places = [k for k in places if section[k].rstrip() == word] or places
        if not places:
            return f"has no line {word}"
        if len(places) > 1:
            return f"has more than one line {word}, so where SEARCH ends cannot be told"
        return places[0]


def without_numbers(lines: Sequence[str]) -> tuple[list[str], bool]:
    """The lines without a passage's numbers, where all that are not blank have one; and whether they had."""
    number, stripped, found = _markers().number, list(lines), False
    while any(line.strip() for line in stripped):
        if not all(number.match(line) for line in stripped if line.strip()):
            break
        stripped, found = [number.sub("", line, count=1) for line in stripped], True
    return stripped, found


def join_lines(lines: Sequence[str]) -> str:
    """Lines without their ends as a text of whole lines."""
    return "".join(f"{line}\n" for line in lines)
