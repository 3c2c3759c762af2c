"""Directions by name: finding one, whether it fits a model, and its dose as one multiplier.

Knows `protocol.Directions`, not the class of a vector. Knows nothing of how directions are applied.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import torch

from steergraph.base.errors import InputError
from steergraph.engine.protocol import Directions, ModelInfo, Named
from steergraph.engine.steering.records import Unit

LOCAL_REVISION = 16
"""Length of the revision of a local model: a hash of its weights. A hub commit is longer."""


class SteeringError(InputError):
    """A steering that can't be carried out: unknown vector, other width or model, layer out of range."""


class UnknownVector(SteeringError, KeyError):
    """No vector of this name. A KeyError too, so that a `Named` behaves as every mapping does."""

    __str__ = Exception.__str__


def look_up(library: Named, name: str) -> Directions:
    """The vector called `name`. Raises UnknownVector, which names the nearest ones."""
    try:
        return library[name]
    except UnknownVector:
        raise
    except KeyError:
        raise unknown(name, library) from None


def unknown(name: str, library: Mapping[str, Any]) -> UnknownVector:
    near = difflib.get_close_matches(name, library, n=3, cutoff=0.3) or sorted(library)[:3]
    hint = f"nearest: {', '.join(near)}" if near else "the library is empty"
    return UnknownVector(f"no vector called {name!r}; {hint}")


def multiplier(vector: Directions, layer: int, alpha: float, unit: Unit) -> float:
    """What the raw direction is multiplied by to give the dose.

    Raises InputError where there is no such number, or none that a reader's float32 could hold.
    """
    if unit == "raw":
        return alpha
    length = float(vector.directions[layer].double().norm())
    if length == 0.0:
        raise InputError(f"vector {vector.name!r}: its direction at layer {layer} is zero, so it has no unit vector")
    dose = alpha
    if unit == "residual":
        median = vector.median_residual_norms.get(layer)
        if not median:
            raise InputError(
                f"vector {vector.name!r}: no median residual norm at layer {layer}; give alpha as unit_vector or raw"
            )
        dose *= median
    if abs(dose / length) > torch.finfo(torch.float32).max:
        raise InputError(f"vector {vector.name!r}: its direction at layer {layer} is too short to be given that dose")
    return dose / length


def check_fits(vector: Directions, info: ModelInfo, *, layer: int | None = None, force: bool = False) -> None:
    """Raise SteeringError (one line) unless `vector` can be applied to the model, at `layer` where one is given.

    Another width never fits. Another model of the same width, or other local weights under the same name, is refused
    unless `force`d.
    """
    where = f"vector {vector.name!r}"
    if vector.hidden_size != info.hidden_size:
        raise SteeringError(
            f"{where}: made for {vector.model or 'a model'} of width {vector.hidden_size}, "
            f"{info.name} has width {info.hidden_size}"
        )
    if not force and not same_model(vector, info):
        made, loaded = f"{vector.model} {vector.revision}".strip(), f"{info.name} {info.revision}".strip()
        raise SteeringError(f"{where}: made for {made}, but loaded is {loaded}; extract it anew")
    if layer is None:
        return
    if not 0 <= layer < info.n_layers:
        raise SteeringError(f"{where}: layer {layer} is out of range, {info.name} has layers 0 to {info.n_layers - 1}")
    if layer not in vector.directions:
        raise SteeringError(f"{where}: no direction at layer {layer}, only at {layer_ranges(vector.directions)}")


def same_model(vector: Directions, info: ModelInfo) -> bool:
    """Whether both mean one model. A hub id and its local copy have one last name. Local revisions are hashes of the
    weights, so they must agree; a hub commit may change without the weights."""
    if not vector.model or (vector.revision and vector.revision == info.revision):
        return True
    if vector.model.rsplit("/", 1)[-1].lower() != info.name.rsplit("/", 1)[-1].lower():
        return False
    return not len(vector.revision) == len(info.revision) == LOCAL_REVISION


def layer_ranges(layers: Mapping[int, Any]) -> str:
    """Layers for a person: "0 to 27", or the first few where there are gaps."""
    numbers = sorted(layers)
    if not numbers:
        return "none"
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
