"""JSON files of others, read as the standard has it."""

import json
from typing import Any


def strict_json(text: str) -> Any:
    """The value that `text` is.

    Raises ValueError: it is no JSON, NaN or an infinity is in it, a key stands twice in one object (of which one would
    be lost), or it is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refused, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
