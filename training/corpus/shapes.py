"""Templates of functions and classes, each with the marks where a defect can be: `shapes/*.yaml`, parsed.

Knows the notation, and which shapes and families of defects are held out. Knows nothing of the words that fill them.
"""

import random
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from steergraph.configs import parse_yaml
from training.corpus.arguments import KINDS
from training.corpus.behaviour import Script

MARK = re.compile("⟦(.*?)⟧", re.DOTALL)
_ATTRIBUTE = re.compile(r"[@!]([abfgtu])\b|\{([abfgtu])\}")
HELD_OUT_FAMILIES = frozenset({"mutable_default", "exception", "early_return", "slice_bound", "case"})
"""Defects that training never shows."""


@dataclass(frozen=True)
class Mark:
    family: str
    right: str
    wrongs: tuple[str, ...]
    symptoms: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    index: int
    names: tuple[str, ...]
    doc: str
    parts: tuple[str | Mark, ...]
    script: Script | None
    """How to call it; None where it needs more than plain values."""
    attributes: tuple[str, ...]
    """The slots of its code that are attributes of records."""
    held_out: bool = False
    """Never drawn for training."""
    dotted: bool = False
    """Its records have attributes, whatever the file's style: it names them inside an f-string."""

    @property
    def right(self) -> str:
        """The template of the right code."""
        return "".join(part if isinstance(part, str) else part.right for part in self.parts)


def _mark(text: str) -> Mark:
    family, right, wrongs, symptoms = text.split("§")
    return Mark(family, right, tuple(wrongs.split("¦")), tuple(symptoms.split("¦")))


@cache
def shapes() -> tuple[Shape, ...]:
    """Every shape of shapes/*.yaml, parsed."""
    entries: list[dict[str, Any]] = []
    for name in ("common", "further", "held_out"):
        text = files("training.corpus").joinpath("shapes", f"{name}.yaml").read_text(encoding="utf-8")
        entries += parse_yaml(text, f"shapes/{name}.yaml")
    return tuple(parse_shape(entry, index) for index, entry in enumerate(entries))


def parse_shape(entry: dict[str, Any], index: int = -1) -> Shape:
    """An entry of shapes/*.yaml. `index` is its place among them, -1 for a shape that is not written there."""
    pieces = MARK.split(entry["code"].rstrip("\n"))
    return Shape(
        index,
        tuple(entry["name"].split("/")),
        entry["doc"],
        tuple(_mark(piece) if i % 2 else piece for i, piece in enumerate(pieces)),
        _script(entry) if "args" in entry else None,
        tuple(sorted({a or b for a, b in _ATTRIBUTE.findall(entry["code"])})),
        entry.get("held_out", False),
        bool(re.search(r"![abfgtu]\b", entry["code"])),
    )


def _script(entry: dict[str, Any]) -> Script:
    def kinds(text: str) -> tuple[str, ...]:
        return tuple(kind.strip() for kind in text.split(",") if kind.strip())

    args = kinds(entry["args"])
    left_out = [kind.endswith("?") and kind not in KINDS for kind in args]
    calls = [call.split(":") for call in entry.get("calls", [])]
    return Script(
        tuple(kind.removesuffix("?") if out else kind for kind, out in zip(args, left_out, strict=True)),
        tuple((name, kinds(given)) for name, given in calls),
        sum(left_out),
        entry.get("stateful", False),
    )


def families() -> tuple[str, ...]:
    """The defect families, sorted."""
    return tuple(sorted({part.family for shape in shapes() for part in shape.parts if isinstance(part, Mark)}))


@cache
def _places(held_out_shapes: bool, held_out_families: bool) -> dict[str, tuple[tuple[Shape, int], ...]]:
    """By family, every shape and mark where such a defect can be."""
    found: dict[str, list[tuple[Shape, int]]] = {}
    for shape in shapes():
        if not held_out_families and shape.held_out != held_out_shapes:
            continue
        for place, part in enumerate(shape.parts):
            if isinstance(part, Mark) and (part.family in HELD_OUT_FAMILIES) == held_out_families:
                found.setdefault(part.family, []).append((shape, place))
    return {family: tuple(places) for family, places in sorted(found.items())}


def pick_defect(
    rng: random.Random, held_out_shapes: bool = False, held_out_families: bool = False
) -> tuple[Shape, int]:
    """A shape and the mark where its defect shall be. Families with many places come more often."""
    places = _places(held_out_shapes, held_out_families)
    family = rng.choices(list(places), [len(of_family) ** 0.5 for of_family in places.values()])[0]
    return rng.choice(places[family])


def pick_shape(rng: random.Random, held_out: bool = False) -> Shape:
    """A shape for a piece without a defect."""
    return rng.choice([shape for shape in shapes() if shape.held_out == held_out])
