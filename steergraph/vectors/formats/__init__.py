"""Steering vectors in other projects' files: told apart by what is in them, read, and written.

One module a format knows its file; this one knows which there are. Layers and doses are converted as docs/formats.md
says, in one table. Nothing in a file is trusted: whatever is wrong with it is one InputError.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.vectors.formats import easysteer, gguf, lm_eval, neuronpedia, svec, tensors, torch_zip
from steergraph.vectors.formats.common import (
    MAX_TEXT,
    Export,
    dump_json,
    notes_of,
    parse_json,
    read_bytes,
    steering_of,
)
from steergraph.vectors.formats.expected import Expected, expected, hold
from steergraph.vectors.formats.svec import Side
from steergraph.vectors.formats.tensors import Rows
from steergraph.vectors.store.files import load_vector, save_vector
from steergraph.vectors.store.header import MAX_HIDDEN, MAX_LAYERS, MAX_METADATA, PICKLES
from steergraph.vectors.vector import SteeringVector, check_directions

__all__ = ["FORMATS", "Export", "Rows", "Side", "detect", "notes_of", "read_vectors", "steering_of", "write_vector"]


@dataclass(frozen=True)
class Format:
    suffixes: tuple[str, ...]
    """What its files must be called for its own programs to take them."""
    about: str
    write: Callable[[SteeringVector, Path, Export], Path]


def _write_ours(vector: SteeringVector, path: Path, how: Export) -> Path:
    if how.alpha is not None:
        raise InputError("a steergraph file has no dose: alpha is said where the vector is used")
    layers = set(how.layers if how.layers is not None else vector.directions)
    if not layers <= vector.directions.keys() or not layers:
        raise InputError(f"vector {vector.name!r}: it has not all of the layers {sorted(layers)}")
    kept = {
        name: {layer: value for layer, value in getattr(vector, name).items() if layer in layers}
        for name in ("directions", "raw_norms", "median_residual_norms")
    }
    return save_vector(vector.model_copy(update=kept), path)


FORMATS: dict[str, Format] = {
    "gguf": Format((".gguf",), "GGUF control vector: llama.cpp, repeng, EasySteer", gguf.write),
    "lm-eval": Format((".pt", ".pth"), "lm-evaluation-harness, --model steered", lm_eval.write),
    "cast": Format((".svec",), "CAST (activation-steering)", svec.write_cast),
    "aisteer360": Format((".svec",), "AISteer360", svec.write_aisteer360),
    "easysteer": Format((".json",), "EasySteer specification, with its GGUF beside it", easysteer.write),
    "neuronpedia": Format((".json",), "Neuronpedia's vector-upload body", neuronpedia.write),
    "steergraph": Format((".safetensors",), "steergraph's own", _write_ours),
}


def detect(path: str | Path) -> str:
    """Which kind of file this is, by what is in it: a name of FORMATS, "svec" for either of the two, "tensors" for a
    `.pt` of bare tensors, which is read and never written.

    Raises InputError where it is none of them.
    """
    path = Path(path)
    data = read_bytes(path)
    kind = _kind(data, path)
    return kind if kind != "torch" else "lm-eval" if lm_eval.is_steering(torch_zip.load(data, path)) else "tensors"


def _kind(data: bytes, path: Path) -> str:
    if data[:4] in (gguf.MAGIC, gguf.MAGIC[::-1]):
        return "gguf"
    if data[:4] == b"PK\x03\x04":
        return "torch"
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return "steergraph"
    if data[:1] == b"\x80" or path.suffix.lower() in PICKLES:
        raise InputError(f"{path}: a bare pickle, which can run code, is not opened; save it again with torch.save")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        raise InputError(f"{path}: none of the files that are read; they are {', '.join(FORMATS)}")
    found = parse_json(data, path)
    if "directions" in found:
        return "svec"
    if "vector" in found and "layerNumber" in found:
        return "neuronpedia"
    if any(name in found for name in ("vectors", "steering", "spec")):
        return "easysteer"
    raise InputError(f"{path}: JSON with none of directions (.svec), vectors (EasySteer), vector (Neuronpedia)")


def read_vectors(
    path: str | Path,
    *,
    name: str | None = None,
    model: str | None = None,
    hidden_size: int | None = None,
    side: Side | None = None,
    layer: int | None = None,
    rows: Rows | None = None,
) -> list[SteeringVector]:
    """The vectors in a file of any format that `detect` knows; all but EasySteer's hold one.

    `name` and `model` replace what the file says (most say neither; a model makes `check_fits` mean something). Where
    the model's config is on this machine, the file is held to its width, depth and architecture. `hidden_size` is the
    width that is expected. `side` is for `.svec` alone: see `svec.read`. `layer` and `rows` are for bare tensors: see
    `tensors.read`. What the file asks for beside the directions is in `metadata["imported"]`; `steering_of` makes a
    `Steering` of it, `notes_of` says what was guessed, passed over or dropped.

    Raises InputError (one line) for everything that is wrong with the file.
    """
    path = Path(path)
    data = read_bytes(path)
    kind = _kind(data, path)
    if side is not None and kind != "svec":
        raise InputError(f"{path}: side is for .svec files; this is {kind}")
    if kind != "torch" and (layer is not None or rows is not None):
        raise InputError(f"{path}: layer and rows are for bare tensors in a .pt; this is {kind}")
    wanted = expected(model, hidden_size)
    readers: dict[str, Callable[[], list[SteeringVector]]] = {
        "gguf": lambda: [gguf.read(path)],
        "torch": lambda: [_read_torch(data, path, layer, rows, wanted)],
        "svec": lambda: [svec.read(data, path, side=side)],
        "easysteer": lambda: easysteer.read(data, path),
        "neuronpedia": lambda: [neuronpedia.read(data, path)],
        "steergraph": lambda: [load_vector(path)],
    }
    vectors = readers[kind]()
    if name is not None and len(vectors) > 1:
        raise InputError(f"{path}: {len(vectors)} vectors, which can't all be called {name!r}")
    held = [hold(vector, wanted, path) for vector in vectors]
    return [vector.model_copy(update={"name": name}) for vector in held] if name is not None else held


def _read_torch(data: bytes, path: Path, layer: int | None, rows: Rows | None, wanted: Expected) -> SteeringVector:
    found = torch_zip.load(data, path)
    if not lm_eval.is_steering(found):
        return tensors.read(found, path, layer=layer, rows=rows, model=wanted)
    if layer is not None or rows is not None:
        raise InputError(f"{path}: layer and rows are for bare tensors; this is lm-eval's dictionary")
    return lm_eval.read(found, path)


def write_vector(vector: SteeringVector, path: str | Path, format: str | None = None, **how: Any) -> Path:
    """Write `vector` to `path` in a format of FORMATS, whole or not at all. Returns the path.

    `format` None goes by the suffix where that says it (`.gguf`, `.pt`, `.safetensors`). `how` is the fields of
    `Export`: layers, alpha, unit, positions, model_type, skip_layer_0, hookpoint, source.

    Raises InputError where the format can't say what is asked for, and where no reader would take the vector.
    """
    path = Path(path)
    name = format or _by_suffix(path)
    if name not in FORMATS:
        raise InputError(f"no format called {name!r}; there are {', '.join(FORMATS)}")
    if path.suffix not in FORMATS[name].suffixes:
        raise InputError(f"{path}: a file of {name} ends in {' or '.join(FORMATS[name].suffixes)}")
    _check(vector)
    try:
        asked = Export(**how)
    except ValueError as error:  # pydantic's own, of several lines
        raise InputError(f"{path}: {_first(error)}") from error
    return FORMATS[name].write(vector, path, asked)


def _by_suffix(path: Path) -> str:
    fitting = [name for name, format in FORMATS.items() if path.suffix in format.suffixes]
    if len(fitting) != 1:
        raise InputError(f"{path}: say the format, one of {', '.join(fitting or FORMATS)}")
    return fitting[0]


def _check(vector: SteeringVector) -> None:
    """What every reader here would refuse is refused before it is written."""
    check_directions(vector.name, vector.directions)
    where = f"vector {vector.name[:40]!r}"
    if not vector.name.strip() or not vector.name.isprintable() or len(vector.name) > MAX_TEXT:
        raise InputError(f"{where}: its name is empty, has control characters or more than {MAX_TEXT} characters")
    if vector.hidden_size > MAX_HIDDEN or max(vector.directions) >= MAX_LAYERS or min(vector.directions) < 0:
        raise InputError(f"{where}: wider than {MAX_HIDDEN}, or a layer that is not from 0 to {MAX_LAYERS - 1}")
    try:
        told = dump_json(dict(vector.metadata))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: its metadata is not JSON: {error}") from error
    if len(told) > MAX_METADATA // 2:
        raise InputError(f"{where}: more than {MAX_METADATA // 2} characters of metadata")


def _first(error: Exception) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
