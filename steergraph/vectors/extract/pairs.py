"""Contrast pairs in JSON, as repeng's and CAA's users keep them, as the table that a contrast set is built of.

repeng: `[{"positive": TEXT, "negative": TEXT}, ...]`. CAA: `[{"question": TEXT, "answer_matching_behavior": "(A)",
"answer_not_matching_behavior": "(B)"}, ...]`, of which a text is the question with the answer behind it. Text k of one
side belongs to text k of the other. Knows files; whether the texts are usable is `contrast`'s to say.
"""

import json
import re
from pathlib import Path
from typing import Any

from steergraph.configs import ConfigError

PLAIN = ("positive", "negative")
ANSWERS = ("answer_matching_behavior", "answer_not_matching_behavior")


def read_json(path: Path) -> Any:
    """What a JSON file of pairs holds as a contrast set's table; a mapping as it is. Raises ConfigError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON{f': {error}' if isinstance(error, _Twice) else ''}") from error
    if not isinstance(found, list):
        return found
    sides = [_pair(entry, f"{path}: [{number}]") for number, entry in enumerate(found)]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem).strip("_.-") or "pairs"
    return {
        "name": name,
        "positives": [positive for positive, _ in sides],
        "neutrals": [negative for _, negative in sides],
        "source": path.name,
    }


class _Twice(ValueError):
    """A key stands twice, of which one would be lost."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice("a key stands twice in one entry")
    return found


def _pair(entry: Any, where: str) -> tuple[str, str]:
    """The two texts of one pair."""
    told = entry if isinstance(entry, dict) else {}
    plain, asked = [told.get(name) for name in PLAIN], [told.get(name) for name in ("question", *ANSWERS)]
    if all(isinstance(text, str) for text in plain):
        return str(plain[0]), str(plain[1])
    if all(isinstance(text, str) for text in asked):
        question, positive, negative = map(str, asked)
        return f"{question.rstrip()}\n{positive.strip()}", f"{question.rstrip()}\n{negative.strip()}"
    raise ConfigError(f"{where} has neither {' and '.join(PLAIN)} nor question, {' and '.join(ANSWERS)} as texts")
