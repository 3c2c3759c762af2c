"""The code in an answer: what stands in its fences, or all of it where it is nothing but code.

Knows Markdown's fences and what models put around code. Reads no files.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from steergraph.agents.edits.headers import FENCE

_PATH = re.compile(r"[\w./-]*[\w-]\.[A-Za-z]\w*:?")
_NUMBERED = re.compile(r"[ \t]*\d+[|:]")
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


def program(text: str) -> ast.Module | str:
    """Python source as a syntax tree, or what is wrong with it in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        line = (error.text or "").strip()
        return f"line {error.lineno}: {error.msg}" + (f": `{line[:80]}`" if line else "")
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error) or "it is nested too deeply"


def _clean(lines: Sequence[str]) -> str:
    """The lines without a passage's numbers copied along, and without common indentation."""
    filled = [line for line in lines if line.strip()]
    if filled and all(_NUMBERED.match(line) for line in filled):
        lines = [_NUMBERED.sub("", line, count=1) for line in lines]
    text = "\n".join(line.rstrip() if not line.strip() else line for line in lines)
    return textwrap.dedent(text).strip("\n") + "\n"
