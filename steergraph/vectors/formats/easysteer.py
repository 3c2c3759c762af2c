"""EasySteer's steering specification: JSON that names a GGUF, the layers, the scale and the positions.

Its layers are ours. `scale` is the scale_of of the direction in the GGUF. Its `normalize` keeps the length of the
*hidden state*, so it is not our `unit_vector` and is never asked for: the scale_of says the dose whatever its unit.
`generation` positions there begin with the first decoding step; our `generated` begins one earlier, with the last
prompt token, which is `prompt_positions: [-1]` and `generation: "all"` together.
"""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.engine.steering.directions import layer_ranges
from steergraph.engine.steering.records import Positions
from steergraph.vectors.formats import gguf
from steergraph.vectors.formats.common import (
    Export,
    chosen,
    dump_json,
    layer_of,
    number_of,
    origin,
    parse_json,
    scale_of,
    short,
    text_of,
)
from steergraph.vectors.vector import SteeringVector

KEYS = {"source", "scale", "layers", "normalize", "apply", "algorithm", "name"}
APPLY: dict[Positions, dict[str, Any]] = {
    "all": {"prompt": "all", "generation": "all"},
    "generated": {"prompt_positions": [-1], "generation": "all"},
}
MAX_ENTRIES = 1024


def read(data: bytes, path: Path) -> list[SteeringVector]:
    """The vectors that a specification names, one for each GGUF, with the doses that it asks for.

    Sources are read from the specification's own folder and nowhere else. Raises InputError, also for what our steering
    can't say: other algorithms, `normalize`, single tokens.
    """
    found = parse_json(data, path)
    for wrapper in ("steering", "spec"):
        found = found[wrapper] if isinstance(found.get(wrapper), dict) else found
    entries = found.get("vectors")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_ENTRIES:
        raise InputError(f"{path}: it has no list of 1 to {MAX_ENTRIES} vectors")
    if len(entries) > 1 and found.get("conflict", "priority") != "sequential":
        raise InputError(f"{path}: its conflict is not sequential; with another its vectors don't add up")
    asked: dict[str, list[dict[str, Any]]] = {}
    loaded: dict[str, SteeringVector] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: vector {number}"
        if not isinstance(entry, dict) or not set(entry) <= KEYS or not {"source", "apply"} <= set(entry):
            raise InputError(f"{where} has not the keys source, scale, layers and apply, or has others")
        if entry.get("normalize") or entry.get("algorithm", "direct") != "direct":
            raise InputError(f"{where} uses normalize or an algorithm other than direct; steering here only adds")
        source = _beside(entry["source"], path, where)
        if source.name not in loaded:
            loaded[source.name] = gguf.read(source)
        asked.setdefault(source.name, []).extend(_doses(entry, loaded[source.name], where))
    made = []
    for name, vector in loaded.items():
        metadata = {**vector.metadata, **origin("easysteer", source=name, doses=asked[name])}
        made.append(vector.model_copy(update={"metadata": metadata}))
    return made


def _beside(source: Any, path: Path, where: str) -> Path:
    """The file of that name in the specification's folder. A server's own path is not followed here."""
    name = text_of(source, f"{where}: its source")
    last = PureWindowsPath(PurePosixPath(name).name).name
    if not last or last in (".", ".."):
        raise InputError(f"{where}: its source {short(name)} is no file")
    if not (path.parent / last).is_file():
        raise InputError(f"{where}: its source {short(name)} is not beside it; put {short(last)} into {path.parent}")
    return path.parent / last


def _doses(entry: dict[str, Any], vector: SteeringVector, where: str) -> list[dict[str, Any]]:
    applied = entry["apply"]
    positions = next((ours for ours, theirs in APPLY.items() if applied == theirs), None)
    if positions is None:
        raise InputError(f"{where}: its apply {short(applied)} is neither all positions nor the generated ones")
    scale = number_of(entry.get("scale", 1.0), f"{where}: its scale")
    layers = entry.get("layers")
    if layers is None:
        layers = sorted(vector.directions)
    if not isinstance(layers, list) or not layers or len(layers) > MAX_ENTRIES:
        raise InputError(f"{where}: its layers are not a list of layers")
    numbers = [layer_of(layer, f"{where}: layers") for layer in layers if not isinstance(layer, str)]
    missing = sorted(set(numbers) - vector.directions.keys())
    if missing or len(numbers) < len(layers):
        raise InputError(f"{where}: its layers {short(layers)} are not all of {layer_ranges(vector.directions)}")
    return [{"layer": layer, "alpha": scale, "positions": positions} for layer in numbers]


def write(vector: SteeringVector, path: Path, how: Export) -> Path:
    """Write `path` (JSON) and, before it, the GGUF of the same name beside it. Returns `path`. Raises InputError."""
    layers = chosen(vector, how, one_by_one=True)
    raw = how.model_copy(update={"alpha": None, "layers": tuple(layers)})
    beside = path.with_suffix(".gguf")
    if beside == path:
        raise InputError(f"{path}: the specification is JSON and has a GGUF beside it; give a name that ends in .json")
    entries = [
        {
            "source": how.source or beside.name,
            "scale": scale_of(vector, layer, how),
            "layers": [layer],
            "apply": APPLY[how.positions],
        }
        for layer in layers
        if layer or not how.skip_layer_0
    ]
    gguf.write(vector, beside, raw)
    content: dict[str, Any] = {"vectors": entries}
    if len(entries) > 1:
        content["conflict"] = "sequential"  # the default lets the first vector at a position win
    return write_whole(path, dump_json(content), parents=True)
