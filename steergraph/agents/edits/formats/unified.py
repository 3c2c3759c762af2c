"""Unified diffs of an answer -> edits. Their line numbers are ignored: models count badly, and the lines say where."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from steergraph.agents.edits.blocks import Edit, ParsedEdits
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.headers import named_in

_FENCE = re.compile(r"\s*(?:`{3,}|~{3,}).*")


class _Hunk(NamedTuple):
    header: str | None
    """What the `+++` line (or, for a deletion, the `---` line) above it names."""
    body: tuple[str, ...]


def parse_unified(answer: str, shown: Shown) -> ParsedEdits:
    """The edits that an answer's diffs ask for. Never raises.

    Each hunk's context and removed lines are a SEARCH, its context and added lines the REPLACE; where SEARCH stands in
    the file is for whoever applies it. With one file shown, the header may be missing.
    """
    edits: list[Edit] = []
    problems: list[str] = []
    only = next(iter(shown.files)) if len(shown.files) == 1 else None
    for hunk in _hunks(answer.replace("\r\n", "\n").split("\n")):
        path = _path(hunk.header, shown) if hunk.header else only
        if path is None:
            problems.append(f"a hunk that begins `{hunk.body[0][:60]}` names no file: write --- and +++ above it")
        else:
            edits.append(_edit(path, hunk.body))
    if not edits and not problems:
        problems = ["there is no diff in the answer: write --- PATH, +++ PATH, @@ and the lines"]
    return ParsedEdits(edits=tuple(dict.fromkeys(edits)), problems=tuple(problems))


def _hunks(lines: Sequence[str]) -> Iterator[_Hunk]:
    header: str | None = None
    body: list[str] | None = None
    skip = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if skip:
            skip = False
            continue
        opens = line.startswith("--- ") and following.startswith("+++ ")
        ends = opens or line.startswith("@@") or _FENCE.fullmatch(line) or (line and line[0] not in " +-\\")
        if body is not None and ends:
            yield from _whole(header, body)
            body = None
        if opens:
            header, skip = (following if "/dev/null" not in following else line)[4:].split("\t")[0].strip(), True
        elif line.startswith("@@"):
            body = []
        elif body is not None and not line.startswith("\\"):
            body.append(line)
    if body is not None:
        yield from _whole(header, body)


def _whole(header: str | None, body: list[str]) -> Iterator[_Hunk]:
    while body and not body[-1].strip():
        body.pop()
    if any(line[:1] in "+-" for line in body if line):
        yield _Hunk(header, tuple(body))


def _path(header: str, shown: Shown) -> str:
    named = named_in(header, shown.paths)
    return named[0] if len(named) == 1 else header.removeprefix("b/")


def _edit(path: str, body: Sequence[str]) -> Edit:
    old = "".join(f"{line[1:]}\n" for line in body if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in body if line[:1] != "-")
    return Edit(path=path, kind="change" if old.strip() else "create", search=old if old.strip() else "", replace=new)
