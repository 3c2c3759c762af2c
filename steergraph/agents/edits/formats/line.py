"""Single lines of an answer -> edits: `LINE 12: new text` under a file's path, by the numbers that were shown."""

import re

from steergraph.agents.edits.blocks import Edit, ParsedEdits, join_lines
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.headers import path_near

_LINE = re.compile(r"[ \t]*(?:[-*][ \t]+)?(?:\*\*)?LINE[ \t]+(\d+)(?:\*\*)?[ \t]*:(?:\*\*)?(.*)", re.IGNORECASE)
_COPIED = re.compile(r"[ \t]*(\d+)\|(.*)")
"""A shown line's number, copied along."""


def parse_lines(answer: str, shown: Shown) -> ParsedEdits:
    """The edits that an answer's lines ask for. Never raises.

    Behind the colon and one blank stands the line's new text, as it is; nothing but blanks there deletes the line. Text
    without any indentation gets that of the old line, and that is said. With one file shown the path may be missing.
    """
    new: dict[str, dict[int, str]] = {}
    problems: list[str] = []
    path: str | None = None
    above: list[str] = []
    for text in answer.split("\n"):
        found = _LINE.fullmatch(text.rstrip("\r"))
        if found is None:
            above.append(text)
            continue
        only = next(iter(shown.files)) if len(shown.files) == 1 else None
        path = path_near("", above, shown.paths, alone=False) or path or only
        above = []
        number, said = int(found[1]), found[2].removeprefix(" ")
        if path is None:
            problems.append(f"LINE {number}: no path stands above it")
            continue
        copied = _COPIED.fullmatch(said)
        if copied and int(copied[1]) == number:
            said = copied[2]
        if new.setdefault(path, {}).setdefault(number, said) != said:
            problems.append(f"{path}, line {number} is written twice, and differently")
    edits: list[Edit] = []
    notes: list[str] = []
    for name, lines in new.items():
        edits += _edits(name, lines, shown, problems, notes)
    if not new and not problems:
        problems = ["there is no line in the answer: write `LINE n: new text` under the file's path"]
    if not edits and not problems:
        problems = ["nothing changes: every line is as it was"]
    return ParsedEdits(edits=() if problems else tuple(edits), problems=tuple(problems), notes=tuple(notes))


def _edits(path: str, lines: dict[int, str], shown: Shown, problems: list[str], notes: list[str]) -> list[Edit]:
    """From a file's end to its beginning, so that every line number is that of the file as it is."""
    try:
        text = shown.read(path)
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return []
    if text is None:
        problems.append(f"{path}: there is no such file")
        return []
    old = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    spans = shown.files.get(path, ())
    edits = []
    for number, said in sorted(lines.items(), reverse=True):
        if not any(first <= number <= last for first, last in spans) or number > len(old):
            problems.append(f"{path}, line {number} was not shown")
            continue
        before = old[number - 1]
        lead = before[: len(before) - len(before.lstrip())]
        if said.strip() and said == said.lstrip() and lead:
            said = lead + said
            notes.append(f"{path}, line {number}: indented as the line was")
        replace = join_lines([said]) if said.strip() else ""
        if said.rstrip() != before.rstrip():
            edits.append(Edit(path=path, kind="change", search=join_lines([before]), replace=replace, at=number))
    return edits
