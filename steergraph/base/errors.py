"""Errors for people: what went wrong as one line, whatever raised it."""

from pydantic import ValidationError

from steergraph.base.text import printable


class InputError(ValueError):
    """What the user gave cannot be used. The message is one line: what, where, what to do. Commands exit with 2."""


def one_line(text: str, most: int = 300) -> str:
    """`text` as one printable line of at most `most` characters, for what others said and we pass on."""
    line = " ".join(printable(text).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def first_problem(error: Exception) -> str:
    """The first problem of a ValidationError as "field: what is wrong", of any other error its text, as one line."""
    if not isinstance(error, ValidationError):
        return one_line(str(error)) or type(error).__name__
    first = error.errors()[0]
    said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    where = ".".join(map(str, first["loc"]))
    return one_line(f"{where}: {said}" if where else said)
