"""Whole files of an answer -> edits: the code under a file's name is the file."""

import re
from pathlib import PurePosixPath

from steergraph.agents.edits.blocks import Edit, ParsedEdits
from steergraph.agents.edits.elision import is_placeholder
from steergraph.agents.edits.formats.fences import code_in
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.headers import path_near


def parse_files(answer: str, shown: Shown) -> ParsedEdits:
    """The edits that an answer's files ask for. Never raises.

    The path stands in the fence's info string, above the fence or in the code's first line; with one file shown and one
    written, it may be missing. A file with a part left out, and one that the answer ends inside of, are problems.
    """
    edits: list[Edit] = []
    problems: list[str] = []
    codes = code_in(answer)
    for code in codes:
        first = code.text.split("\n")[0]
        named = re.fullmatch(r"(?:#|//|--|/\*|<!--)\s*(\S+?)\s*(?:\*/|-->)?", first)
        path = path_near(code.info.partition(" ")[2], code.above, shown.paths, alone=False)
        if path is None and named and _is_file(named[1], shown):
            path = named[1]
        if path is None and len(codes) == len(shown.files) == 1:
            path = next(iter(shown.files))
        left_out = next((line.strip() for line in code.text.split("\n") if is_placeholder(line)), None)
        if path is None:
            problems.append(f"no path stands at the code that begins `{first[:60]}`")
        elif not code.closed:
            problems.append(f"{path}: the answer ends inside the file")
        elif left_out:
            problems.append(f"{path}: a part is left out (`{left_out[:60]}`): write the whole file")
        else:
            edits += _edit(path, code.text, shown, problems)
    if not codes:
        problems = ["there is no code in the answer: write the whole file in a fence, its path above it"]
    return ParsedEdits(edits=tuple(dict.fromkeys(edits)), problems=tuple(problems))


def _edit(path: str, text: str, shown: Shown, problems: list[str]) -> list[Edit]:
    try:
        old = shown.read(path)
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return []
    if not old:
        return [Edit(path=path, kind="create", replace=text)]
    whole = old.removeprefix("\ufeff").replace("\r\n", "\n")
    seen = sum(last - first + 1 for first, last in shown.files.get(path, ()))
    if seen and seen < whole.count("\n"):
        problems.append(f"{path} was shown in part, so that it can't be written whole")
        return []
    return [Edit(path=path, kind="change", search=whole, replace=text, at=1)]


def _is_file(word: str, shown: Shown) -> bool:
    return word in shown.paths or bool(PurePosixPath(word).suffix and "/" in word)
