"""`.svec`, the JSON of CAST (activation-steering) and of AISteer360.

CAST edits the *input* of the block that a key names: its key k + 1 is our layer k, and its key 0, the input of the
first block, is no layer of ours. AISteer360 has directions [K][width]; of its controls, CAA and directional
ablation edit the *output*, so the number goes over as it is; CAST, ActAdd, Angular Steering and ITI edit the input. A
file says neither, so a reader goes by the shape unless told `side`.
Only one direction a layer (K = 1) is a steering vector of ours. There is no place for a dose: it is multiplied in.
"""

from pathlib import Path
from typing import Any, Literal

import torch

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.vectors.formats.common import (
    Export,
    chosen,
    doses,
    dump_json,
    layer_of,
    model_type_of,
    number_of,
    numbers,
    origin,
    parse_json,
    row_of,
    scale_of,
    text_of,
    vector_of,
)
from steergraph.vectors.vector import SteeringVector

Side = Literal["input", "output"]
BAKED = "steergraph_alpha_baked"


def read(data: bytes, path: Path, *, side: Side | None = None) -> SteeringVector:
    """The vector in a `.svec`. `side` says where its directions are added: the "input" or the "output" of the block
    that a key names; None takes 1-D directions for CAST's (input) and 2-D ones for AISteer360's (output).

    Raises InputError, for several directions a layer (positions, planes, heads) too.
    """
    found = parse_json(data, path)
    listed = found.get("directions")
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{path}: it has no directions by layer")
    if found.get("num_heads") is not None:
        raise InputError(f"{path}: its directions are of attention heads, not of whole blocks; those are not read")
    shapes = set()
    by_key: dict[int, torch.Tensor] = {}
    for name, values in listed.items():
        key = layer_of(name, f"{path}: a key of directions")
        nested = isinstance(values, list) and bool(values) and isinstance(values[0], list)
        shapes.add(2 if nested else 1)
        if nested and len(values) != 1:
            raise InputError(f"{path}: {len(values)} directions at key {key}; a steering vector has one a layer")
        by_key[key] = row_of(values[0] if nested else values, f"{path}: its direction at key {key}")
    if len(shapes) > 1:
        raise InputError(f"{path}: some directions are lists and some lists of lists; write the file again")
    ours = shapes == {2}
    shift = 1 if (side or ("output" if ours else "input")) == "input" else 0
    directions = {key - shift: row for key, row in by_key.items() if key >= shift}
    if not directions:
        raise InputError(f"{path}: only key 0, the input of the first block, which is the output of none; side=output?")
    variances = found.get("explained_variances")
    model_type = text_of(found.get("model_type"), f"{path}: its model_type")
    facts = origin(
        "aisteer360" if ours else "cast",
        side="input" if shift else "output",
        notes=["key 0, the input of the first block, dropped: it is the output of none"]
        if shift and 0 in by_key
        else None,
        explained_variances=_variances(variances, shift, path) if variances is not None else None,
        alpha_baked=found.get(BAKED) is True or None,
        doses=doses(sorted(directions), [1.0] * len(directions)) if found.get(BAKED) is True else None,
    )
    return vector_of(path, directions, metadata={"model_type": model_type, **facts})


def _variances(told: Any, shift: int, path: Path) -> dict[str, float]:
    where = f"{path}: its explained_variances"
    if not isinstance(told, dict):
        raise InputError(f"{where} are not numbers by layer")
    return {str(key - shift): number_of(v, where) for k, v in told.items() if (key := layer_of(k, where)) >= shift}


def write_cast(vector: SteeringVector, path: Path, how: Export) -> Path:
    """Write for CAST: directions [width], keys one up. Raises InputError where the last block has no next one."""
    layers = chosen(vector, how)
    blocks = vector.metadata.get("n_layers")
    if type(blocks) is int and layers[-1] + 1 >= blocks:
        raise InputError(
            f"vector {vector.name!r}: CAST edits the input of the next block, and layer {layers[-1]} is the last of "
            f"{blocks}; choose other layers"
        )
    directions = {str(layer + 1): _baked(vector, layer, how) for layer in layers}
    kept = vector.metadata.get("imported", {})
    known = kept.get("explained_variances", {}) if isinstance(kept, dict) else {}
    # CAST can't load a file without them, and itself writes 1 where a method has none.
    variances = {str(layer + 1): known.get(str(layer), 1.0) for layer in layers}
    return _write(vector, path, how, {"directions": directions, "explained_variances": variances})


def write_aisteer360(vector: SteeringVector, path: Path, how: Export) -> Path:
    """Write for AISteer360: directions [1][width], keys as they are."""
    directions = {str(layer): [_baked(vector, layer, how)] for layer in chosen(vector, how)}
    return _write(vector, path, how, {"directions": directions})


def _baked(vector: SteeringVector, layer: int, how: Export) -> list[float]:
    scaled = vector.directions[layer].float() * scale_of(vector, layer, how)
    if not bool(scaled.isfinite().all()):
        raise InputError(f"vector {vector.name!r}: alpha {how.alpha} is beyond float32; give a smaller one")
    return numbers(scaled)


def _write(vector: SteeringVector, path: Path, how: Export, content: dict[str, Any]) -> Path:
    said = {BAKED: True} if how.alpha is not None else {}
    return write_whole(
        path, dump_json({"model_type": model_type_of(vector, how.model_type), **content, **said}), parents=True
    )
