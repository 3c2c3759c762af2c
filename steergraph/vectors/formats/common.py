"""What every format shares: limits, reading a file nobody trusts, layer numbers, and the dose as one multiplier.

Layers are ours everywhere above a format's own module: `layer` is the 0-based block whose output is edited. A dose is
one number a layer: what the direction, as it lies in the file, is multiplied by before it is added. Knows no format.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.base.strict_json import strict_json
from steergraph.engine.steering.directions import layer_ranges, multiplier
from steergraph.engine.steering.records import Component, Positions, Steering, Unit
from steergraph.vectors.store.header import MAX_HIDDEN, MAX_LAYERS, check_file
from steergraph.vectors.vector import SteeringVector, make_vector

MAX_JSON_BYTES = 64 * 2**20
"""A parsed JSON number takes up to ten times its text, so text is held to less than binary files are."""
UNKNOWN = "unknown"
"""What a file says of its architecture where nobody knows it."""
MAX_TEXT = 1024
"""Characters of a name, a label or a model in somebody's file."""


class Export(Frozen):
    """How a vector is to be written."""

    layers: tuple[int, ...] | None = None
    """Which of its layers; None is all of them. Formats that steer every layer they hold insist on a choice."""
    alpha: FiniteFloat | None = None
    """The dose, in `unit`. None leaves it to whoever applies the file: the direction as it was made, times 1."""
    unit: Unit = "unit_vector"
    positions: Positions = "all"
    model_type: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    """`config.model_type` of the model, as "qwen3"; None takes it from the vector's metadata, and
    "unknown" where that has none."""
    skip_layer_0: bool = False
    """Leave layer 0 out where a format cannot say it, instead of refusing."""
    hookpoint: str = Field(default="layers", pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,99}$")
    """lm-eval's name of the list of blocks below `base_model`: "layers", or "h" for GPT-2."""
    source: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    """EasySteer: where its server finds the GGUF; None is the file written beside the JSON."""


# --- files ------------------------------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """The whole file. InputError where there is none, it can't be read, or it is larger than a vector's."""
    size = check_file(path)
    try:
        with path.open("rb") as handle:
            return handle.read(size)  # no more than that, should it grow meanwhile
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """The mapping that `data` is as JSON. InputError where it is not, or says one thing twice."""
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{path}: {len(data) / 2**20:.0f} MiB of JSON; at most {MAX_JSON_BYTES // 2**20}")
    try:
        parsed = strict_json(data.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path}: truncated, damaged or not valid JSON; make or copy it again") from error
    if not isinstance(parsed, dict):
        raise InputError(f"{path}: its JSON is not a mapping")
    return parsed


# --- what is in them --------------------------------------------------------------------------------------------------


def text_of(value: Any, where: str, *, default: str = "") -> str:
    """A short printable text. InputError for anything else; None is `default`."""
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise InputError(f"{where} is not a text of at most {MAX_TEXT} printable characters")
    return value


def number_of(value: Any, where: str) -> float:
    """A finite number. InputError for anything else, true and false among them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where} is not a finite number")
    return number


def layer_of(value: Any, where: str) -> int:
    """A layer's number from 3 or "3". InputError for anything else."""
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,3}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_LAYERS:
        raise InputError(f"{where}: {short(value)} is not a layer from 0 to {MAX_LAYERS - 1}")
    return value


def row_of(values: Any, where: str) -> torch.Tensor:
    """A direction [width], float32, from a list of numbers. InputError for anything else."""
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_HIDDEN:
        raise InputError(f"{where} is not a list of 1 to {MAX_HIDDEN} numbers")
    if not all(type(value) in (int, float) for value in values):
        raise InputError(f"{where} has entries that are not numbers")
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused by name later
            return torch.from_numpy(np.asarray(values, dtype=np.float64).astype(np.float32))
    except OverflowError as error:
        raise InputError(f"{where} has NaN or infinite entries") from error


def row_in(value: Any, where: str) -> torch.Tensor:
    """A direction [width], float32, from a tensor [width] or [1, width]. InputError for anything else."""
    if not isinstance(value, torch.Tensor) or value.shape[:-1].numel() != 1 or value.dim() > 3 or not value.dim():
        raise InputError(f"{where} is not a tensor [width] or [1, width]")
    if not 1 <= value.shape[-1] <= MAX_HIDDEN:
        raise InputError(f"{where} is {value.shape[-1]} wide; a direction has 1 to {MAX_HIDDEN} numbers")
    return value.detach().reshape(-1).float().clone()


def vector_of(path: Path, directions: Mapping[int, torch.Tensor], **fields: Any) -> SteeringVector:
    """As `make_vector`, with the file's name before its complaints. `name` is the file's where none is given."""
    if not 1 <= len(directions) <= MAX_LAYERS:
        raise InputError(f"{path}: {len(directions)} directions; a vector has 1 to {MAX_LAYERS}")
    name = fields.pop("name", "") or "".join(c for c in path.stem if c.isprintable()).strip() or "imported"
    try:
        made = make_vector(name, directions, **fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if max(made.raw_norms.values()) > torch.finfo(torch.float32).max:
        raise InputError(f"{path}: a direction is too long to be one")
    return made


def origin(format: str, **facts: Any) -> dict[str, Any]:
    """Metadata that says where a vector was imported from. Facts that are None are left out; `notes` are sentences on
    what was guessed, passed over or dropped."""
    return {"imported": {"format": format, **{name: fact for name, fact in facts.items() if fact is not None}}}


def note(vector: SteeringVector, *sentences: str) -> SteeringVector:
    """`vector` with more notes on its import."""
    imported = vector.metadata.get("imported")
    facts = dict(imported) if isinstance(imported, dict) else {}
    facts["notes"] = [*notes_of(vector), *sentences]
    return vector.model_copy(update={"metadata": {**vector.metadata, "imported": facts}})


def notes_of(vector: SteeringVector) -> list[str]:
    """What was guessed, passed over or dropped when the vector was imported."""
    imported = vector.metadata.get("imported")
    told = imported.get("notes") if isinstance(imported, dict) else None
    return [str(sentence) for sentence in told] if isinstance(told, list) else []


def steering_of(vector: SteeringVector) -> Steering | None:
    """The steering that the file a vector was imported from asks for, in unit `raw`; None where it asks for none."""
    facts = vector.metadata.get("imported")
    doses = facts.get("doses") if isinstance(facts, dict) else None
    if not doses:
        return None
    return Steering(components=tuple(Component(vector=vector.name, unit="raw", **dose) for dose in doses))


# --- what is written --------------------------------------------------------------------------------------------------


def chosen(vector: SteeringVector, how: Export, *, one_by_one: bool = False) -> list[int]:
    """The layers to write, ascending. With `one_by_one`, a vector of several layers needs a choice among them."""
    if how.layers is None:
        if one_by_one and len(vector.directions) > 1:
            raise InputError(
                f"vector {vector.name!r}: such a file steers every layer in it; say which of layers "
                f"{layer_ranges(vector.directions)} to write"
            )
        return sorted(vector.directions)
    missing = sorted(set(how.layers) - vector.directions.keys())
    if missing or not how.layers:
        raise InputError(
            f"vector {vector.name!r}: no direction at layer {missing[0] if missing else 'none'}, "
            f"only at {layer_ranges(vector.directions)}"
        )
    return sorted(set(how.layers))


def scale_of(vector: SteeringVector, layer: int, how: Export) -> float:
    """What the raw direction is multiplied by to give the dose: 1 where none is asked for.

    Raises InputError where there is no such number, or none that a reader's float32 could hold.
    """
    if how.alpha is None:
        return 1.0
    return multiplier(vector, layer, how.alpha, how.unit)


def model_type_of(vector: SteeringVector, told: str | None = None) -> str:
    """`config.model_type` of the vector's model, "unknown" where neither the caller nor the vector says it."""
    known = told or vector.metadata.get("model_type") or model_type_named(vector.metadata.get("architecture"))
    return str(known or UNKNOWN)


def model_type_named(architecture: Any) -> str:
    """The `config.model_type` of a class of transformers, as "llama" of "LlamaForCausalLM"; "" of any other."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    found = [kind for kind, named in CLASSES.items() if named == architecture]
    # Some families are of another's class: LlamaForCausalLM is exaone's too.
    own = [kind for kind in found if str(architecture).lower().startswith(squashed(kind))]
    return next(iter(own or found), "")


def known_model_types() -> set[str]:
    """Names of architectures, squashed, as transformers and llama.cpp have them."""
    from gguf import MODEL_ARCH_NAMES
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return {squashed(name) for name in (*CONFIG_MAPPING_NAMES, *MODEL_ARCH_NAMES.values())}


def squashed(model_type: str) -> str:
    """One spelling for two: "qwen3_moe" is llama.cpp's "qwen3moe", "gemma3_text" the inner part of a "gemma3"."""
    return re.sub(r"[^a-z0-9]", "", model_type.lower()).removesuffix("text")


def dump_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False, ensure_ascii=True).encode("ascii")


def numbers(direction: torch.Tensor) -> list[float]:
    """Every float32 exactly, as JSON numbers."""
    listed: list[float] = direction.detach().to("cpu", torch.float32).double().tolist()
    return listed


def doses(layers: Sequence[int], scales: Sequence[float], positions: Positions = "all") -> list[dict[str, Any]]:
    """As kept in `origin`, read by `steering_of`."""
    pairs = zip(layers, scales, strict=True)
    return [{"layer": layer, "alpha": scale, "positions": positions} for layer, scale in pairs]


def short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
