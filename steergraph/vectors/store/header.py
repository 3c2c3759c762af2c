"""What a vector's file says of itself, read without its directions: a list of vectors needs no torch.

Everything read is checked before it is used: sizes before anything is loaded, every number for being finite.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from steergraph.base.errors import InputError
from steergraph.base.files import LFS_POINTER
from steergraph.base.records import Frozen

FORMAT, FORMAT_VERSION = "steergraph.vector", "1"
SUFFIX = ".safetensors"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
MAX_FILE_BYTES = 256 * 2**20
MAX_LFS_POINTER = 1024
MAX_LAYERS = 1024
MAX_HIDDEN = 2**17
MAX_METADATA = 2**20
"""Characters of metadata altogether."""
TEXTS = ("name", "model", "revision", "method", "contrast_hash", "read_position")
HASH = re.compile("[0-9a-f]{16}")
NUMBERS = ("raw_norms", "median_residual_norms")
OWN_FOLDER = "my-vectors/"
"""Where a command that is proposed puts vectors; `vectors/` in a checkout is a link into the package."""
DAMAGED = "truncated, damaged or not a safetensors file; make or copy it again"


class Header(Frozen):
    """A `SteeringVector` but its directions; its hash as the file has it, which `load_vector` checks."""

    name: str
    model: str
    revision: str
    hidden_size: int
    method: str
    contrast_hash: str
    read_position: str
    raw_norms: dict[int, float]
    median_residual_norms: dict[int, float]
    settings: dict[str, Any]
    parents: tuple[str, ...]
    metadata: dict[str, Any]
    hash: str
    layers: tuple[int, ...]

    @property
    def held_out_auroc(self) -> dict[int, float]:
        return held_out_auroc(self.metadata)


def held_out_auroc(metadata: Mapping[str, Any]) -> dict[int, float]:
    """AUROC of the projection of held-out texts by layer; empty where it was not measured."""
    scores = metadata.get("held_out_auroc")
    if not isinstance(scores, Mapping):
        return {}
    found = ((str(layer), score) for layer, score in scores.items())
    return {int(k): float(v) for k, v in found if k.isdecimal() and isinstance(v, int | float)}


def read_header(path: Path) -> Header:
    """The header of a vector's file. Raises InputError as `load_vector` does, but for what is wrong with numbers in the
    directions or with the hash."""
    _check_path(path)
    try:
        with safe_open(str(path), framework="np") as handle:
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
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {DAMAGED}") from error
    return Header(**fields, hash=header["hash"], layers=tuple(layers))


def check_file(path: Path, kind: str = "file") -> int:
    """Bytes of a vector's `kind`. Raises InputError unless it is a file of at most MAX_FILE_BYTES."""
    try:
        size = path.stat().st_size if path.is_file() else None
        pointer = size is not None and size < MAX_LFS_POINTER and path.read_bytes().startswith(LFS_POINTER)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read it: {getattr(error, 'strerror', None) or error}") from error
    if size is None:
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}; give a vector's {kind}")
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size / 2**20:.0f} MiB; a vector has at most {MAX_FILE_BYTES // 2**20}")
    if pointer:
        raise InputError(f"{path}: a Git LFS pointer, not the {kind} itself; fetch that: git lfs pull")
    return size


def _check_path(path: Path) -> None:
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path}: a pickle, which can run code, is not opened; tensors and lm-eval's dictionaries are read without "
            f"running any: steergraph vectors import {path} --out {OWN_FOLDER} --model MODEL"
        )
    check_file(path, f"{SUFFIX} file")
    if path.suffix.lower() == ".gguf":
        raise InputError(
            f"{path}: a GGUF file; make it a {SUFFIX} file first: steergraph vectors import {path} --out {OWN_FOLDER}"
        )


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
        check_numbers(fields[name], f"{path}: {name}")
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


def check_numbers(values: Mapping[int, Any], where: str) -> None:
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
