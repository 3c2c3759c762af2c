"""How a vector lies on disk: safetensors, a tensor `direction.<layer>` for each layer, the rest in its header.

Header metadata is strings; structured values are JSON. Knows nothing of models. Everything read is checked before it is
used: sizes before tensors are loaded, every number for being finite, the contents against the hash that was written.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from steergraph.base.errors import InputError
from steergraph.base.files import file_stem, write_whole
from steergraph.base.versions import version_of
from steergraph.vectors.vector import SteeringVector, check_directions

FORMAT, FORMAT_VERSION = "steergraph.vector", "1"
SUFFIX = ".safetensors"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
MAX_FILE_BYTES = 256 * 2**20
MAX_LAYERS = 1024
MAX_HIDDEN = 2**17
MAX_METADATA = 2**20
"""Characters of metadata altogether."""
TEXTS = ("name", "model", "revision", "method", "contrast_hash", "read_position")
HASH = re.compile("[0-9a-f]{16}")
NUMBERS = ("raw_norms", "median_residual_norms")


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
    _check_path(path)
    try:
        with safe_open(str(path), framework="pt") as handle:
            header: dict[str, str] = handle.metadata() or {}
            if header.get("format") != FORMAT:
                raise InputError(
                    f"{path}: a safetensors file, but not a steergraph vector (its metadata has no format {FORMAT!r})"
                )
            if header.get("format_version") != FORMAT_VERSION:
                raise InputError(
                    f"{path}: format version {_short(header.get('format_version'))}, this steergraph reads "
                    f"{FORMAT_VERSION}; install a newer one"
                )
            if sum(map(len, header.values())) > MAX_METADATA:
                raise InputError(f"{path}: more than {MAX_METADATA} characters of metadata; not a vector of ours")
            fields = _fields(header, path)
            layers = _layers(handle, fields["hidden_size"], path)
            # Cloned: what safetensors hands out is mapped from the file, which may be replaced while we use it.
            directions = {layer: handle.get_tensor(f"direction.{layer}").clone() for layer in layers}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: truncated, damaged or not a safetensors file; make or copy it again") from error
    try:
        check_directions(fields["name"], directions)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    vector = SteeringVector(directions=directions, **fields)
    if header.get("hash") != vector.hash:
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
        _check_numbers(getattr(vector, name), f"vector {vector.name!r}: {name}")
    data = save({f"direction.{layer}": d for layer, d in directions.items()}, metadata=_header(vector))
    return write_whole(path, data, parents=True)


def check_file(path: Path, kind: str = "file") -> int:
    """Bytes of a vector's `kind`. Raises InputError unless it is a file of at most MAX_FILE_BYTES."""
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read it: {getattr(error, 'strerror', None) or error}") from error
    if size is None:
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}; give a vector's {kind}")
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size / 2**20:.0f} MiB; a vector has at most {MAX_FILE_BYTES // 2**20}")
    return size


def _check_path(path: Path) -> None:
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path}: a pickle, which can run code, is not opened; lm-eval's are read without running "
            f"any: steergraph vectors import {path} --out . ; convert any other where you trust it: python -c "
            '"import torch; from steergraph import make_vector, save_vector; '
            "save_vector(make_vector('NAME', torch.load('FILE', weights_only=True), model='MODEL'), "
            "'NAME.safetensors')\" (the file holds one direction by layer)"
        )
    check_file(path, f"{SUFFIX} file")
    if path.suffix.lower() == ".gguf":
        raise InputError(
            f"{path}: a GGUF file; make it a {SUFFIX} file first: steergraph vectors import {path.name} --out ."
        )


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


def _fields(header: Mapping[str, str], path: Path) -> dict[str, Any]:
    """A SteeringVector's fields but its directions."""
    wanted = (*TEXTS, *NUMBERS, "metadata", "hidden_size", "hash")
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(f"{path}: its metadata lacks {', '.join(missing)}; make the vector again")
    fields: dict[str, Any] = {name: header[name] for name in TEXTS}
    if not fields["name"].strip() or not fields["name"].isprintable():
        raise InputError(f"{path}: its name is empty or has control characters")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", header["hidden_size"]) or int(header["hidden_size"]) > MAX_HIDDEN:
        raise InputError(f"{path}: hidden_size {_short(header['hidden_size'])} is not a width from 1 to {MAX_HIDDEN}")
    fields["hidden_size"] = int(header["hidden_size"])
    for name in NUMBERS:
        values = _json(header[name], f"{path}: {name}")
        if not isinstance(values, dict) or not all(re.fullmatch(r"0|[1-9][0-9]{0,8}", key) for key in values):
            raise InputError(f"{path}: {name} is not a number by layer")
        fields[name] = {int(layer): value for layer, value in values.items()}
        _check_numbers(fields[name], f"{path}: {name}")
    for name in ("metadata", "settings"):
        fields[name] = _json(header.get(name, "{}"), f"{path}: {name}")
        if not isinstance(fields[name], dict):
            raise InputError(f"{path}: {name} is not a mapping")
    parents = _json(header.get("parents", "[]"), f"{path}: parents")
    if not isinstance(parents, list) or not all(isinstance(p, str) and HASH.fullmatch(p) for p in parents):
        raise InputError(f"{path}: parents is not a list of hashes")
    fields["parents"] = tuple(parents)
    return fields


def _layers(handle: Any, hidden_size: int, path: Path) -> list[int]:
    """The layers in the file, whose tensors have the promised shape and type. Nothing is loaded yet."""
    names = list(handle.keys())
    if not 1 <= len(names) <= MAX_LAYERS:
        raise InputError(f"{path}: {len(names)} tensors; a vector has 1 to {MAX_LAYERS}")
    layers = []
    for name in names:
        number = re.fullmatch(r"direction\.(0|[1-9][0-9]{0,3})", name)
        if number is None:
            raise InputError(f"{path}: a tensor called {_short(name)}; a vector has only direction.<layer>")
        part = handle.get_slice(name)
        if part.get_shape() != [hidden_size] or part.get_dtype() != "F32":
            raise InputError(
                f"{path}: {name} is {part.get_dtype()} {part.get_shape()}, not F32 [{hidden_size}] as its metadata says"
            )
        layers.append(int(number[1]))
    return sorted(layers)


def _check_numbers(values: Mapping[int, Any], where: str) -> None:
    for layer, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise InputError(f"{where} at layer {layer} is not a finite number of 0 or more")


def _json(text: str, where: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON; make the vector again") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
