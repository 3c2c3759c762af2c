"""Edits -> files -> unified diff.

Knows edits and the texts of files, which it is given a function to read. Knows nothing of git, models or the graph. A
diff is always computed from the files, so what does not fit them is a problem in words and never a broken patch.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from steergraph.agents.edits.blocks import Edit, Standing
from steergraph.agents.edits.diffs import unified_diff
from steergraph.agents.edits.elision import filled
from steergraph.agents.edits.matching import How, Place, at_line, locate, untouched
from steergraph.agents.edits.merge import merged_lines, need_commas, same
from steergraph.agents.edits.paths import UnsafePath, safe_path
from steergraph.base.records import Frozen
from steergraph.repo.encoding import to_text, why_unwritable

__all__ = ["Applied", "Matched", "UnsafePath", "apply_edits", "read_from", "safe_path", "unified_diff"]

Read = Callable[[str], str | None]
MAX_FILE_BYTES = 1_000_000
_BOM = "\ufeff"
_HOW = {
    "whitespace": "by white space alone, and REPLACE was indented as the file is",
    "part": "as a part of the line, and only that part was replaced",
    "similar": "by its nearest lines, and REPLACE was merged with them",
}


class Matched(Frozen):
    """Where one edit's SEARCH was found. `line` is 1-based, in the file as the edits before it had left it."""

    path: str
    line: int
    how: How

    @property
    def inexact(self) -> str | None:
        """What a user should know of a SEARCH that was not the file's own lines; None where it was."""
        if self.how == "exact":
            return None
        return f"{self.path}, line {self.line}: SEARCH was found {_HOW[self.how]}"


class Applied(Frozen):
    """The files that the edits change, before and after (None: no such file), and what could not be done.

    An edit with a problem is left out and the others stand, so a caller that wants all or nothing looks at `problems`.
    """

    before: dict[str, str | None]
    after: dict[str, str | None]
    problems: tuple[str, ...]
    matched: tuple[Matched, ...] = ()
    kept: Mapping[str, tuple[int | None, ...]] = Field(default_factory=dict)
    """For every line of a changed file, the 0-based line of `before` that it is; None for a new one."""

    @property
    def files(self) -> dict[str, str | None]:
        return self.after


class _Line(NamedTuple):
    text: str
    end: str
    at: int | None = None
    """Its number (0-based) in the file as it was before this edit; None for a new one."""


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
    unwritable = {path: why_unwritable(path, files.first[path], files.now[path]) for path in sorted(changed)}
    problems += [f"{path}: {why}" for path, why in unwritable.items() if why]
    return Applied(
        before={path: files.first[path] for path in sorted(changed)},
        after={path: files.now[path] for path in sorted(changed)},
        problems=tuple(problems),
        matched=tuple(matched),
        kept={path: tuple(files.kept[path]) for path in sorted(changed) if path in files.kept},
    )


def standing_in(read: Read) -> Standing:
    """How the lines of a SEARCH stand in a file, for `parse_edits`; with no lines, whether it could be created."""

    def stands(path: str, search: str) -> Literal["", "nearly", "exactly"]:
        try:
            text = read(safe_path(path))
        except (OSError, ValueError):
            return ""
        if not search.strip() or text is None:
            return "" if search.strip() or text else "exactly"
        place = locate([line.text for line in split_lines(search)], [line.text for line in split_lines(text)])
        if not isinstance(place, Place):
            return ""
        return "exactly" if place.how in ("exact", "whitespace") else "nearly"

    return stands


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
            return to_text(path, data)
        except ValueError as error:
            raise ValueError(f"the file is {error}") from error

    return read


class _Files:
    """The files as the edits so far have left them."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.first: dict[str, str | None] = {}
        self.now: dict[str, str | None] = {}
        self.touched: set[str] = set()
        self.kept: dict[str, list[int | None]] = {}
        """Of every file that was changed and is still the same file: the first text's line that each line is."""

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
            before = self.kept.get(path)
            new, lines, place = _changed(old, edit, before)
            self.kept[path] = [at if at is None or before is None else before[at] for at in lines]
        if new == old:
            raise _Refused("no change: REPLACE says what is there already")
        _must_be_text(new)
        self.now[path] = new
        self.touched.add(path)
        if edit.kind != "change":
            self.kept[path] = [None] * len(split_lines(new or ""))
        return place

    def _created(self, path: str, old: str | None, text: str) -> str:
        if old:
            raise _Refused("the file exists already: put the lines to change under SEARCH")
        filled([], text.split("\n"))
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


def _changed(old: str, edit: Edit, kept: Sequence[int | None] | None) -> tuple[str, list[int | None], Place]:
    """The new text, the old line that each of its lines is, and where SEARCH stood. `kept` are the first text's lines
    that the old ones are, where edits came before."""
    mark = _BOM if old.startswith(_BOM) else ""
    lines = split_lines(old.removeprefix(_BOM))
    search, replace = ([line.text for line in split_lines(part)] for part in (edit.search, edit.replace))
    texts = [line.text for line in lines]
    place = locate(search, texts) if edit.at is None else at_line(search, texts, edit.at)
    if isinstance(place, str):
        # What stands twice by an earlier edit stood once when SEARCH was written.
        place = untouched(search, texts, kept) if kept and edit.at is None else place
    if isinstance(place, str):
        raise _Refused(place)
    replace = filled(search, replace)
    usual = _usual_end(lines)
    region = lines[place.start : place.stop]
    new = _rewrite(region, search, replace, place, usual)
    result = lines[: place.start] + new + lines[place.stop :]
    # Only the last line of a file may lack its newline, and it goes on lacking it.
    ragged = bool(new) and place.stop == len(lines) and not lines[-1].end
    result = [line if line.end else line._replace(end=usual) for line in result]
    if result and (ragged or (place.stop < len(lines) and not lines[-1].end)):
        result[-1] = result[-1]._replace(end="")
    return mark + "".join(line.text + line.end for line in result), [line.at for line in result], place


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
        theirs = replace[j1:j2]
        need_commas(theirs, [(search[i], region[i].text) for i in (i1 - 1, i2) if 0 <= i < len(region)])
        if any(not same(search[i], region[i].text) for i in range(i1, i2)):
            # Later lines of REPLACE are indented as the file is; each group's first follows the file's own line.
            lines = [line.text for line in region[i1:i2]]
            theirs = (
                [theirs[0], *(_indented(text, place) for text in theirs[1:])] if i2 - i1 == 1 and theirs else theirs
            )
            texts = merged_lines(search[i1:i2], lines, theirs, place.start + i1)
        else:
            texts = [_indented(text, place) for text in theirs]
        new += [_Line(text, here) for text in texts]
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


def split_lines(text: str) -> list[_Line]:
    """The lines of `text`, each with its own end; the last one may have none."""
    parts = text.split("\n")
    last = parts.pop()
    lines = [_Line(p[:-1], "\r\n", k) if p.endswith("\r") else _Line(p, "\n", k) for k, p in enumerate(parts)]
    return lines + ([_Line(last, "", len(parts))] if last else [])


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
