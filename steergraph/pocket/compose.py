"""Functions that nobody wrote down: frames and parts of `shapes/parts.yaml`, put together at random.

Knows how parts fit into frames. Knows nothing of the words that fill their slots, nor of what the functions do.
"""

import random
import re
from functools import cache
from importlib.resources import files
from typing import Any

from steergraph.configs import parse_yaml
from steergraph.pocket.shapes import MARK, Shape, parse_shape

_PART = re.compile(r"<(\w+)>")


@cache
def _grammar() -> dict[str, list[dict[str, Any]]]:
    text = files("steergraph.pocket").joinpath("shapes", "parts.yaml").read_text(encoding="utf-8")
    grammar: dict[str, list[dict[str, Any]]] = parse_yaml(text, "pocket/shapes/parts.yaml")
    return grammar


def compose(rng: random.Random) -> Shape:
    """A drawn function. A part that a frame names twice is drawn for each place, in the docstring's order."""
    grammar = _grammar()
    frame = rng.choice(grammar["frames"])
    drawn: dict[str, list[dict[str, Any]]] = {}
    for kind in dict.fromkeys(_PART.findall(frame["doc"] + frame["code"])):
        times = max(len(re.findall(f"<{kind}>", frame[side])) for side in ("doc", "code"))
        drawn[kind] = rng.sample(grammar[kind], times)
        if len(re.findall(f"<{kind}>", frame["doc"])) < times and times > 1:
            drawn[kind] = drawn[kind][:1] * times  # one mark in several spellings
    parameters, kinds = [], []
    for part in (part for parts in drawn.values() for part in {p["code"]: p for p in parts}.values()):
        if "parameter" in part and part["parameter"] not in parameters:
            parameters.append(part["parameter"])
            kinds += [kind.strip() for kind in part["args"].split(",")]
    code = _put(frame["code"], drawn, "code")
    first = code.index("):")
    code = code[:first] + "".join(f", {name}" for name in parameters) + code[first:]
    doc = _put(frame["doc"], drawn, "says")
    return parse_shape({**frame, "doc": doc, "code": code, "args": ", ".join([frame["args"], *kinds])})


def _put(text: str, drawn: dict[str, list[dict[str, Any]]], side: str) -> str:
    left = {kind: list(parts) for kind, parts in drawn.items()}

    def next_part(match: re.Match[str]) -> str:
        parts = left[match[1]]
        said = str((parts.pop(0) if len(parts) > 1 else parts[0])[side])
        inside = text.rfind("⟦", 0, match.start()) > text.rfind("⟧", 0, match.start())
        return MARK.sub(lambda mark: mark[1].split("§")[1], said) if inside else said  # marks do not hold marks

    return _PART.sub(next_part, text)
