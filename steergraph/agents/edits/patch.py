"""Edits -> files -> unified diff.

Knows edits and the texts of files, which it is given a function to read. Knows nothing of git, models or the graph. A
diff is always computed from the files, so what does not fit them is a problem in words and never a broken patch.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from steergraph.agents.edits.blocks import Edit
from steergraph.agents.edits.diffs import unified_diff
from steergraph.agents.edits.matching import How, Place, locate
from steergraph.agents.edits.paths import UnsafePath, safe_path
from steergraph.base.records import Frozen

__all__ = ["Applied", "Matched", "UnsafePath", "apply_edits", "read_from", "safe_path", "unified_diff"]

Read = Callable[[str], str | None]
MAX_FILE_BYTES = 1_000_000
_BOM = "\ufeff"


class Matched(Frozen):
    """Where one edit's SEARCH was found. `line` is 1-based, in the file as the edits before it had left it."""

    path: str
    line: int
    how: How


class Applied(Frozen):
    """The files that the edits change, before and after (None: no such file), and what could not be done.

    An edit with a problem is left out and the others stand, so a caller that wants all or nothing looks at `problems`.
    """

    before: dict[str, str | None]
    after: dict[str, str | None]
    problems: tuple[str, ...]
    matched: tuple[Matched, ...] = ()

    @property
    def files(self) -> dict[str, str | None]:
        return self.after


class _Line(NamedTuple):
    text: str
    end: str


class _Refused(ValueError):
    """One edit cannot be done. The message is for whoever wrote it."""


def apply_edits(edits: Iterable[Edit], read: Read) -> Applied:
    """Apply `edits` in their order to the files that `read` gives (None: no such file). Never raises for an edit.

    `read` may raise OSError or ValueError (InputError is one) for a file that cannot be edited: that is a problem too.
    SEARCH is found exactly, by white space (REPLACE is indented anew), or by nearest lines; lines that SEARCH and
    REPLACE share stay as the file has them. Line endings, a byte-order mark and a missing last newline stay. A create
    may fill a file that is there but empty: no SEARCH could.
    """
    files = _Files(read)
    problems: list[str] = []
    matched: list[Matched] = []
    for number, edit in enumerate(edits, 1):
        try:
            path = safe_path(edit.path)
            if place := files.apply(path, edit):
                matched.append(Matched(path=path, line=place.start + 1, how=place.how))
        except UnsafePath as error:
            problems.append(f"edit {number}: {error}")
        except (_Refused, OSError, ValueError) as error:
            problems.append(f"edit {number} of {edit.path}: {error}")
    changed = {path for path in files.now if files.now[path] != files.first[path]}
    problems += [f"{path}: the edits undo each other" for path in sorted(files.touched - changed)]
    return Applied(
        before={path: files.first[path] for path in sorted(changed)},
        after={path: files.now[path] for path in sorted(changed)},
        problems=tuple(problems),
        matched=tuple(matched),
    )


def read_from(root: Path) -> Read:
    """A `read` for `apply_edits` over the folder `root`. It raises ValueError for what is no place for an edit:
    through a symlink, not UTF-8, binary, or over 1 MB."""

    def read(path: str) -> str | None:
        target = root / safe_path(path, root)
        if not target.exists():
            return None
        if target.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"the file is over {MAX_FILE_BYTES:,} bytes")
        data = target.read_bytes()
        if b"\0" in data:
            raise ValueError("the file is binary")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError("the file is not UTF-8") from error

    return read


class _Files:
    """The files as the edits so far have left them."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.first: dict[str, str | None] = {}
        self.now: dict[str, str | None] = {}
        self.touched: set[str] = set()

    def text(self, path: str) -> str | None:
        if path not in self.now:
            self.first[path] = self.now[path] = self.read(path)
        return self.now[path]

    def apply(self, path: str, edit: Edit) -> Place | None:
        old, new, place = self.text(path), None, None
        if edit.kind == "create":
            new = self._created(path, old, edit.replace)
        elif old is None:
            raise _Refused("there is no such file" + ("; leave SEARCH empty to create it" if edit.search else ""))
        elif edit.kind == "change":
            new, place = _changed(old, edit)
        if new == old:
            raise _Refused("no change: REPLACE says what is there already")
        _must_be_text(new)
        self.now[path] = new
        self.touched.add(path)
        return place

    def _created(self, path: str, old: str | None, text: str) -> str:
        if old:
            raise _Refused("the file exists already: put the lines to change under SEARCH")
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if self._is_file(parent := "/".join(parts[:depth])):
                raise _Refused(f"{parent} is a file, not a folder")
        return text

    def _is_file(self, path: str) -> bool:
        try:
            return self.text(path) is not None
        except (OSError, ValueError):  # a folder, for some readers; what is neither, git will refuse
            return False


def _changed(old: str, edit: Edit) -> tuple[str, Place]:
    mark = _BOM if old.startswith(_BOM) else ""
    lines = _split(old.removeprefix(_BOM))
    search, replace = ([line.text for line in _split(part)] for part in (edit.search, edit.replace))
    place = locate(search, [line.text for line in lines])
    if isinstance(place, str):
        raise _Refused(place)
    usual = _usual_end(lines)
    region = lines[place.start : place.stop]
    new = _rewrite(region, search, replace, place, usual)
    result = lines[: place.start] + new + lines[place.stop :]
    # Only the last line of a file may lack its newline, and it goes on lacking it.
    ragged = bool(new) and place.stop == len(lines) and not lines[-1].end
    result = [line if line.end else _Line(line.text, usual) for line in result]
    if result and (ragged or (place.stop < len(lines) and not lines[-1].end)):
        result[-1] = _Line(result[-1].text, "")
    return mark + "".join(line.text + line.end for line in result), place


def _rewrite(region: list[_Line], search: list[str], replace: list[str], place: Place, usual: str) -> list[_Line]:
    """The lines in the place of `region`: what SEARCH and REPLACE share as the file has it, the rest from REPLACE."""
    if place.first or place.last < len(search):
        lead, tail = place.first, len(search) - place.last
        search = search[place.first : place.last]
        replace = _without_blanks(replace, lead, tail)
    end = next((line.end for line in region if line.end), usual)
    new: list[_Line] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, search, replace, autojunk=False).get_opcodes():
        if tag == "equal":
            new += region[i1:i2]
            continue
        here = region[i1].end if i1 < i2 and region[i1].end else (new[-1].end if new and new[-1].end else end)
        new += [_Line(_indented(text, place), here) for text in replace[j1:j2]]
    return new


def _without_blanks(lines: list[str], lead: int, tail: int) -> list[str]:
    """`lines` without the blank lines at their edges that SEARCH had there too and the file has not."""
    while lead and lines and not lines[0].strip():
        lines, lead = lines[1:], lead - 1
    while tail and lines and not lines[-1].strip():
        lines, tail = lines[:-1], tail - 1
    return lines


def _indented(text: str, place: Place) -> str:
    body = text.lstrip()
    if not body or place.how == "exact":
        return text
    indent = place.reindent(text[: len(text) - len(body)])
    if indent is None:
        raise _Refused(
            f"the indentation of `{body[:60]}` cannot be told: copy SEARCH and REPLACE indented as the file is"
        )
    return indent + body


def _split(text: str) -> list[_Line]:
    parts = text.split("\n")
    last = parts.pop()
    lines = [_Line(part[:-1], "\r\n") if part.endswith("\r") else _Line(part, "\n") for part in parts]
    return lines + ([_Line(last, "")] if last else [])


def _usual_end(lines: Iterable[_Line]) -> str:
    counts: Mapping[str, int] = Counter(line.end for line in lines if line.end)
    return max(counts, key=lambda end: counts[end]) if counts else "\n"


def _must_be_text(text: str | None) -> None:
    if text is not None and "\0" in text:
        raise _Refused("the new text has a NUL character")
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Refused("the new text has characters that UTF-8 cannot hold") from error
