"""Functions that nobody wrote down: frames and parts of `shapes/parts.yaml`, put together at random.

Knows how parts fit into frames. Knows nothing of the words that fill their slots, nor of what the functions do.
"""

import random
import re
from functools import cache
from importlib.resources import files
from typing import Any

from steergraph.configs import parse_yaml
from training.corpus.shapes import MARK, Shape, parse_shape

_PART = re.compile(r"<(\w+)>")
JOINED = 0.3
"""The share of conditions that are two, joined by `and` or `or`."""


@cache
def _grammar() -> dict[str, list[dict[str, Any]]]:
    text = files("training.corpus").joinpath("shapes", "parts.yaml").read_text(encoding="utf-8")
    grammar: dict[str, list[dict[str, Any]]] = parse_yaml(text, "shapes/parts.yaml")
    return grammar


@cache
def _weights() -> list[int]:
    """How often each frame is drawn: what varies more comes more often."""
    return [1 + len(_kinds(frame)) for frame in _grammar()["frames"]]


def compose(rng: random.Random) -> Shape:
    """A drawn function. A part that a frame names twice is drawn for each place, in the docstring's order."""
    grammar = _grammar()
    frame = rng.choices(grammar["frames"], _weights())[0]
    drawn = {kind: _draw(rng, grammar[kind], kind, frame) for kind in _kinds(frame)}
    parameters: dict[str, str] = {}
    for part in (part for parts in drawn.values() for part in parts):
        names, kinds = part.get("parameter", ""), part.get("args", "")
        parameters |= dict(zip(names.split(", "), kinds.split(", "), strict=True)) if names else {}
    code = _put(frame["code"], drawn, "code")
    first = code.index("):")
    code = code[:first] + "".join(f", {name}" for name in parameters) + code[first:]
    doc = _put(frame["doc"], drawn, "says")
    return parse_shape({**frame, "doc": doc, "code": code, "args": ", ".join([frame["args"], *parameters.values()])})


def _draw(rng: random.Random, parts: list[dict[str, Any]], kind: str, frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of one kind for a frame, one for each place of its docstring or of its code."""
    said, written = (len(re.findall(f"<{kind}>", frame[side])) for side in ("doc", "code"))
    drawn = rng.sample(parts, max(said, written))
    if kind.endswith("conditions") and rng.random() < JOINED:
        drawn = [_joined(rng, parts)]
    return drawn[:1] if said < written else drawn  # said once, written twice: one mark in two spellings


def _kinds(frame: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(_PART.findall(frame["doc"] + frame["code"])))


def _joined(rng: random.Random, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """Two conditions as one: with parentheses, so that neither takes the other apart."""
    word, other = rng.choice((("and", "or"), ("or", "and")))
    parts = rng.sample([one for one in conditions if "," not in one.get("parameter", "")], 2)
    symptom = "Both must hold." if word == "and" else "One of the two is enough."
    joined: dict[str, Any] = {
        "code": f"({parts[0]['code']}) ⟦logic§{word}§{other}§{symptom}⟧ ({parts[1]['code']})",
        "says": f"{parts[0]['says']} {word} {parts[1]['says']}",
    }
    named = {one["parameter"]: one["args"] for one in parts if "parameter" in one}
    if named:
        joined |= {"parameter": ", ".join(named), "args": ", ".join(named.values())}
    return joined


def _put(text: str, drawn: dict[str, list[dict[str, Any]]], side: str) -> str:
    left = {kind: list(parts) for kind, parts in drawn.items()}

    def next_part(match: re.Match[str]) -> str:
        parts = left[match[1]]
        said = str((parts.pop(0) if len(parts) > 1 else parts[0])[side])
        inside = text.rfind("⟦", 0, match.start()) > text.rfind("⟧", 0, match.start())
        return MARK.sub(lambda mark: mark[1].split("§")[1], said) if inside else said  # marks do not hold marks

    return _PART.sub(next_part, text)
