"""Contrast pairs in JSON, as repeng's and CAA's users keep them, as the table that a contrast set is built of.

repeng: `[{"positive": TEXT, "negative": TEXT}, ...]`. CAA: `[{"question": TEXT, "answer_matching_behavior": "(A)",
"answer_not_matching_behavior": "(B)"}, ...]`, of which a text is the question with the answer behind it. Text k of one
side belongs to text k of the other. Knows files; whether the texts are usable is `contrast`'s to say.
"""

import re
from pathlib import Path
from typing import Any

from steergraph.base.errors import one_line
from steergraph.base.strict_json import strict_json
from steergraph.configs import ConfigError

PLAIN = ("positive", "negative")
ANSWERS = ("answer_matching_behavior", "answer_not_matching_behavior")


def read_json(path: Path) -> Any:
    """What a JSON file of pairs holds as a contrast set's table; a mapping as it is. Raises ConfigError."""
    try:
        found = strict_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {one_line(str(error), 150)}") from error
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
