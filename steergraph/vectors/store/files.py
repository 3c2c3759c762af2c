"""How a vector lies on disk: safetensors, a tensor `direction.<layer>` for each layer, the rest in its header.

Header metadata is strings; structured values are JSON. Knows nothing of models. Everything read is checked before it is
used: sizes before tensors are loaded, every number for being finite, the contents against the hash that was written.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from steergraph.base.errors import InputError
from steergraph.base.files import file_stem, write_whole
from steergraph.base.versions import version_of
from steergraph.vectors.store.header import (
    DAMAGED,
    FORMAT,
    FORMAT_VERSION,
    NUMBERS,
    SUFFIX,
    TEXTS,
    check_numbers,
    read_header,
)
from steergraph.vectors.vector import SteeringVector, check_directions


def file_name(name: str) -> str:
    """The file of a vector called `name`: "django_web/math" gives "django_web%2Fmath.safetensors"."""
    return file_stem(name) + SUFFIX


def load_vector(path: str | Path) -> SteeringVector:
    """Read one vector. Nothing in the file is trusted; no pickle is ever opened.

    Args:
        path: of a *.safetensors file that `save_vector` wrote.

    Returns:
        The vector, its directions float32 on the CPU.

    Raises:
        InputError: the file is missing, of another format, truncated, damaged or absurdly large, or a number in it is
            not finite.
    """
    path = Path(path)
    header = read_header(path)
    try:
        with safe_open(str(path), framework="pt") as handle:
            # Cloned: what safetensors hands out is mapped from the file, which may be replaced while we use it.
            directions = {layer: handle.get_tensor(f"direction.{layer}").clone() for layer in header.layers}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: {DAMAGED}") from error
    try:
        check_directions(header.name, directions)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    vector = SteeringVector(directions=directions, **header.model_dump(exclude={"hash", "layers"}))
    if header.hash != vector.hash:
        raise InputError(f"{path}: its contents do not match the hash written with them; make or copy it again")
    return vector


def save_vector(vector: SteeringVector, path: str | Path) -> Path:
    """Write one vector, whole or not at all.

    Args:
        vector: with its provenance, which goes into the file's header.
        path: ends in .safetensors; folders that lack are made.

    Returns:
        The path.

    Raises:
        InputError: it can't be written, or `load_vector` would refuse the vector.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: a vector's file ends in {SUFFIX}")
    directions = {
        layer: direction.detach().to("cpu", torch.float32).contiguous()
        for layer, direction in sorted(vector.directions.items())
    }
    check_directions(vector.name, directions)
    if any(direction.shape[0] != vector.hidden_size for direction in directions.values()):
        raise InputError(f"vector {vector.name!r}: its directions are not {vector.hidden_size} wide, as it says it is")
    for name in NUMBERS:
        check_numbers(getattr(vector, name), f"vector {vector.name!r}: {name}")
    data = save({f"direction.{layer}": d for layer, d in directions.items()}, metadata=_header(vector))
    return write_whole(path, data, parents=True)


def _header(vector: SteeringVector) -> dict[str, str]:
    try:
        structured = {name: json.dumps(_by_layer(getattr(vector, name))) for name in NUMBERS}
        structured["metadata"] = json.dumps(dict(vector.metadata), allow_nan=False, sort_keys=True)
        if vector.settings:
            structured["settings"] = json.dumps(dict(vector.settings), allow_nan=False, sort_keys=True)
        if vector.parents:
            structured["parents"] = json.dumps(list(vector.parents))
    except (TypeError, ValueError) as error:
        raise InputError(f"vector {vector.name!r}: its metadata is not JSON: {error}") from error
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"steergraph {version_of()}",
        "hash": vector.hash,
        "hidden_size": str(vector.hidden_size),
        **{name: getattr(vector, name) for name in TEXTS},
        **structured,
    }


def _by_layer(values: Mapping[int, float]) -> dict[str, float]:
    return {str(layer): float(values[layer]) for layer in sorted(values)}
