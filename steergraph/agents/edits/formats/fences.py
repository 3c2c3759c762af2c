"""The code in an answer: what stands in its fences, or all of it where it is nothing but code.

Knows Markdown's fences and what models put around code. Reads no files.
"""

import ast
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from steergraph.agents.edits.blocks import without_numbers
from steergraph.agents.edits.headers import FENCE
from steergraph.agents.edits.parsing import program

_PATH = re.compile(r"[\w./-]*[\w-]\.[A-Za-z]\w*:?")
_CLOSING = re.compile(r"(`{3,}|~{3,})\s*")


class Code(NamedTuple):
    """One stretch of code."""

    text: str
    """Whole lines, LF, without what all of them are indented by."""
    info: str
    """What stands behind the fence's marks; "" for code without a fence."""
    above: tuple[str, ...]
    """The lines since the code before it, or since the answer's beginning."""
    closed: bool
    """False where the answer ends before the fence does."""


def code_in(answer: str) -> list[Code]:
    """The fenced code of an answer, in order; the whole of it where it has no fence and is a Python program."""
    lines = answer.replace("\r\n", "\n").split("\n")
    found: list[Code] = []
    above: list[str] = []
    inside: list[str] | None = None
    info = mark = ""
    for line in lines:
        bare = line.strip()
        if inside == [] and _PATH.fullmatch(bare):  # copied into the fence, as a first line
            above.append(line)
        elif inside is None:
            if opening := FENCE.fullmatch(bare):
                inside, info = [], opening[1].strip()
                mark = bare[: len(bare) - len(bare.lstrip("`~"))]
            else:
                above.append(line)
        elif (closing := _CLOSING.fullmatch(bare)) and closing[1].startswith(mark):
            found.append(Code(_clean(inside), info, tuple(above), True))
            above, inside = [], None
        else:
            inside.append(line)
    if inside is not None:
        found.append(Code(_clean(inside), info, tuple(above), False))
    if not found and answer.strip() and isinstance(program(_clean(lines)), ast.Module):
        found.append(Code(_clean(lines), "", (), True))
    return [one for one in found if one.text.strip()]


def _clean(lines: Sequence[str]) -> str:
    """The lines without a passage's numbers copied along, and without common indentation."""
    text = "\n".join(line if line.strip() else "" for line in without_numbers(lines)[0])
    return textwrap.dedent(text).strip("\n") + "\n"
