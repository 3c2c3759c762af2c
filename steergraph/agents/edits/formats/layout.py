"""New lines laid out as the file has its own: indentation, its unit, and the inside of strings.

Knows lines of Python. Knows nothing of edits or answers.
"""

import io
import tokenize
from collections.abc import Sequence

_UNITS = ("\t", "  ", "    ")


def fitted(new: Sequence[str], old: Sequence[str]) -> list[str]:
    """The lines `new` of a definition, which begins in column 0, indented as its old lines `old` are.

    The unit of indentation is the old one's. Lines inside a string that goes over several lines are taken from `old`
    where they stand there, but for white space at their edges, and else left as they are: their blanks are data.
    """
    indent = _lead(old[0]) if old else ""
    unit, own = _unit(old) or _unit(new), _unit(new)
    body = next((line for line in new[1:] if line.strip() and _lead(line)), "")
    absolute = bool(indent) and _lead(body) == indent + unit and own not in _UNITS
    inside = _inside_strings(new)
    there = {line.strip(): line for line in old if line.strip()}
    result = []
    for number, line in enumerate(new, 1):
        if not line.strip():
            result.append(line if number in inside else "")
        elif number in inside:
            result.append(there.get(line.strip(), line))
        elif absolute and _lead(line):
            result.append(line)  # only its head was dedented
        else:
            result.append(indent + _in_unit(_lead(line), own, unit) + line.lstrip(" \t"))
    return result


def _in_unit(lead: str, own: str, unit: str) -> str:
    """White space at a line's beginning, its levels of `own` written in `unit`; what is left over stays blanks."""
    if not own or own == unit or not lead.startswith(own):
        return lead
    levels = 0
    while lead.startswith(own):
        lead, levels = lead[len(own) :], levels + 1
    return unit * levels + lead


def _unit(lines: Sequence[str]) -> str:
    """What the first line with text below the head is indented by beyond it."""
    heads = [line for line in lines if line.strip()]
    base = _lead(heads[0]) if heads else ""
    for line in heads[1:]:
        lead = _lead(line)
        if lead.startswith(base) and len(lead) > len(base) and not line.lstrip().startswith((")", "]", "}", "#")):
            return lead[len(base) :]
    return ""


def _lead(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _inside_strings(lines: Sequence[str]) -> set[int]:
    """Numbers (1-based) of the lines that begin inside a string. A docstring is laid out like code."""
    inside: set[int] = set()
    opened: list[int] = []
    before = -1
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
            if token.type == tokenize.STRING and before != tokenize.INDENT:
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
            elif token.type == getattr(tokenize, "FSTRING_START", -1):
                opened.append(token.start[0])
            elif token.type == getattr(tokenize, "FSTRING_END", -1) and opened:
                inside.update(range(opened.pop() + 1, token.end[0] + 1))
            before = token.type
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return inside
    return inside
