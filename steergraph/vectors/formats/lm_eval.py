"""lm-evaluation-harness, `--model steered`: a `.pt` of one entry a hookpoint.

The hookpoint `layers.<k>` below `base_model` is block k, 0-based, and its output is edited: the number goes over as it
is. `steering_coefficient` is the scale_of of the raw direction. lm-eval adds at every position, prompt and pads too.
Its `add` has no use for a bias: versions to 0.4.9.1 want the key, and the later ones refuse all values but None.
"""

import io
import re
from pathlib import Path
from typing import Any

import torch

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.engine.steering.directions import layer_ranges
from steergraph.vectors.formats.common import (
    Export,
    chosen,
    doses,
    layer_of,
    number_of,
    origin,
    row_in,
    scale_of,
    short,
    vector_of,
)
from steergraph.vectors.store.header import MAX_LAYERS
from steergraph.vectors.vector import SteeringVector

KEYS = {"steering_vector", "steering_coefficient", "action", "bias", "head_index"}
HOOKPOINT = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:layers|layer|h|blocks)\.([0-9]{1,4})", re.ASCII)


def is_steering(found: Any) -> bool:
    """Whether what a `.pt` holds is meant as lm-eval's dictionary."""
    return isinstance(found, dict) and any(isinstance(entry, dict) and KEYS & set(entry) for entry in found.values())


def read(found: dict[Any, Any], path: Path) -> SteeringVector:
    """The vector in what a steering file holds. Raises InputError, for `clamp` and single heads too."""
    if len(found) > MAX_LAYERS:
        raise InputError(f"{path}: {len(found)} hookpoints; at most {MAX_LAYERS}")
    directions, scales, names = {}, {}, {}
    for hookpoint, entry in found.items():
        where = f"{path}: {short(hookpoint)}"
        number = HOOKPOINT.fullmatch(hookpoint) if isinstance(hookpoint, str) else None
        if number is None:
            raise InputError(f"{where} is not a block (layers.<k>), whose output is the residual stream")
        layer = layer_of(str(int(number[1])), where)
        if layer in directions:
            raise InputError(f"{where}: layer {layer} is there twice")
        directions[layer], scales[layer], names[layer] = *_entry(entry, where), hookpoint
    layers = sorted(directions)
    biased = [layer for layer in layers if (bias := found[names[layer]].get("bias")) is not None and bool(bias.any())]
    facts = origin(
        "lm-eval",
        notes=[f"bias at {layer_ranges(dict.fromkeys(biased))} passed over: lm-eval's add has no use for one"]
        if biased
        else None,
        hookpoints=[names[layer] for layer in layers],
        doses=doses(layers, [scales[layer] for layer in layers]),
    )
    return vector_of(path, directions, metadata=facts)


def _entry(entry: Any, where: str) -> tuple[torch.Tensor, float]:
    if not isinstance(entry, dict) or not {"steering_vector", "action"} <= set(entry) <= KEYS:
        raise InputError(f"{where} has not the keys steering_vector, steering_coefficient and action")
    if entry["action"] != "add":
        raise InputError(f"{where}: its action is {short(entry['action'])}; only add is read")
    if entry.get("head_index") is not None:
        raise InputError(f"{where} steers a single attention head; only whole blocks are read")
    if not isinstance(entry.get("bias"), torch.Tensor | None):
        raise InputError(f"{where}: its bias is not a tensor; take it out")
    scale = entry.get("steering_coefficient", 1.0)
    if isinstance(scale, torch.Tensor) and scale.numel() == 1:
        scale = float(scale)
    return row_in(entry["steering_vector"], f"{where}: its steering_vector"), number_of(
        scale, f"{where}: its steering_coefficient"
    )


def write(vector: SteeringVector, path: Path, how: Export) -> Path:
    """Write the chosen layers. Raises InputError, for positions other than `all` too, which lm-eval can't do."""
    if how.positions != "all":
        raise InputError("lm-eval steers every position; positions=generated can't be said in its file")
    content = {
        f"{how.hookpoint}.{layer}": {
            "steering_vector": vector.directions[layer].detach().to("cpu", torch.float32).clone(),
            "steering_coefficient": scale_of(vector, layer, how),
            "action": "add",
            "bias": None,
        }
        for layer in chosen(vector, how, one_by_one=True)
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return write_whole(path, buffer.getvalue(), parents=True)
