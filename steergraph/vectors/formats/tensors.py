"""Bare tensors in a `.pt`: CAA, EasySteer, EasyEdit, steering-vectors, hidden-directions, persona vectors.

One direction, whose layer is told or in the file's name; one a layer, by number; or one tensor [rows, width], of which
a row is a layer. All mean block outputs, but where the rows are transformers' `hidden_states`: row 0 is then the
embedding's, row k + 1 our layer k. A file does not say which it is: the model's depth does, or the caller.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from steergraph.base.errors import InputError
from steergraph.engine.steering.directions import layer_ranges
from steergraph.vectors.formats.common import layer_of, origin, row_in, short, vector_of
from steergraph.vectors.formats.expected import Expected
from steergraph.vectors.store.header import MAX_LAYERS
from steergraph.vectors.vector import SteeringVector

Rows = Literal["outputs", "hidden-states"]
IN_A_NAME = re.compile(r"(?<![a-z0-9])layers?[_.\- ]?([0-9]{1,4})(?![0-9])", re.IGNORECASE | re.ASCII)
KEY = re.compile(r"(?:(?:layers?|blocks|h)[._-]?)?([0-9]{1,4})", re.ASCII)


def read(found: Any, path: Path, *, layer: int | None, rows: Rows | None, model: Expected) -> SteeringVector:
    """The vector in what a `.pt` holds. `layer` is of a single direction, `rows` of a tensor of several.

    Raises InputError.
    """
    if isinstance(found, torch.Tensor) and found.shape[:-1].numel() > 1:
        if layer is not None:
            raise InputError(f"{path}: layer is for a single direction; this is a tensor {list(found.shape)}")
        return _of_rows(found, path, rows, model)
    if rows is not None:
        raise InputError(f"{path}: rows is for a tensor of several directions; this is none")
    if isinstance(found, torch.Tensor):
        row = row_in(found, f"{path}: its tensor")
        if not bool(row.any()):
            raise InputError(f"{path}: its tensor is all zero, which is no direction")
        at, said = (layer, None) if layer is not None else _in_name(path)
        return vector_of(path, {layer_of(at, f"{path}: layer"): row}, metadata=origin("tensors", notes=said))
    if layer is not None:
        raise InputError(f"{path}: layer is for a single direction; this file says its layers itself")
    return vector_of(path, _by_layer(found, path), metadata=origin("tensors"))


def _in_name(path: Path) -> tuple[int, list[str]]:
    """The layer in the file's name, and the note that it is from there."""
    numbers = {int(number) for number in IN_A_NAME.findall(path.stem)}
    if len(numbers) != 1:
        raise InputError(f"{path}: a single direction, and neither it nor its name says at which layer; give --layer")
    (at,) = numbers
    return at, [f"layer {at}, as the file's name says"]


def _by_layer(found: Any, path: Path) -> dict[int, torch.Tensor]:
    if isinstance(found, Mapping) and isinstance(found.get("layer_activations"), Mapping):
        if (kind := found.get("layer_type", "decoder_block")) != "decoder_block":
            raise InputError(f"{path}: its layer_type is {short(kind)}; only whole blocks are read")
        found = found["layer_activations"]
    if not isinstance(found, Mapping) or not 1 <= len(found) <= MAX_LAYERS:
        raise InputError(f"{path}: neither lm-eval's dictionary, nor a tensor, nor tensors by layer")
    directions: dict[int, torch.Tensor] = {}
    for key, value in found.items():
        where = f"{path}: {short(key)}"
        number = KEY.fullmatch(key) if isinstance(key, str) else None
        at = layer_of(int(number[1]) if number else key, where)
        if at in directions:
            raise InputError(f"{where}: layer {at} is there twice")
        directions[at] = row_in(value, where)
        if not bool(directions[at].any()):
            raise InputError(f"{where}: all zero, which is no direction")
    return directions


def _of_rows(found: torch.Tensor, path: Path, rows: Rows | None, model: Expected) -> SteeringVector:
    shape = list(found.shape)
    if found.dim() != 2 or shape[0] > MAX_LAYERS + 1:
        raise InputError(f"{path}: a tensor {shape}; read are [width] and [rows, width], at most {MAX_LAYERS + 1} rows")
    notes = []
    if rows is None:
        rows = _rows_of(shape[0], path, model)
        meant = "row k is the output of block k" if rows == "outputs" else "row 0 is the embedding's, dropped"
        notes.append(f"{shape[0]} rows, {model.name} has {model.n_layers} blocks: {meant}")
    elif rows == "hidden-states":
        notes.append("row 0, the embedding's, dropped")
    shift = 1 if rows == "hidden-states" else 0
    kept = {row - shift: row_in(found[row], f"{path}: row {row}") for row in range(shift, shape[0])}
    directions = {at: row for at, row in kept.items() if bool(row.any())}
    if not directions:
        raise InputError(f"{path}: all its rows are zero")
    if empty := kept.keys() - directions.keys():
        notes.append(f"layers {layer_ranges(dict.fromkeys(empty))} are zero, left out")
    return vector_of(path, directions, metadata=origin("tensors", rows=rows, notes=notes or None))


def _rows_of(count: int, path: Path, model: Expected) -> Rows:
    if model.n_layers is None:
        raise InputError(
            f"{path}: a tensor of {count} rows, which may be block outputs or begin with the embedding's; say "
            "--rows outputs or --rows hidden-states, or name a --model that is on this machine"
        )
    if count == model.n_layers:
        return "outputs"
    if count == model.n_layers + 1:
        return "hidden-states"
    raise InputError(f"{path}: {count} rows, and {model.name} has {model.n_layers} blocks: it is of another model")
