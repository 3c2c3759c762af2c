"""What a file is held to where its model is named: width, depth and architecture, as the model's own config has them.

Knows configs that are on this machine, and nothing of files: an import downloads nothing. What can't be compared is
said among the vector's notes.
"""

from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.loading.weights import config_at_hand
from steergraph.vectors.formats.common import UNKNOWN, known_model_types, note, squashed
from steergraph.vectors.vector import SteeringVector

SAME_IN_LLAMA_CPP = {
    "mistral": "llama",
    "mixtral": "llama",
    "ministral": "llama",
    "phi": "phi2",
    "cohere": "commandr",
    "deepseekv2": "deepseek2",
    "deepseekv3": "deepseek2",
    "gptbigcode": "starcoder",
    "gptrefact": "refact",
    "hunyuanv1dense": "hunyuandense",
}
"""What llama.cpp, and so its cvector-generator, calls otherwise than `config.model_type` does."""


class Expected(Frozen):
    """The model that a file is for, as far as it is known; None is not."""

    name: str | None = None
    """As `ModelInfo.name`."""
    hidden_size: int | None = None
    n_layers: int | None = None
    model_type: str | None = None


def expected(model: str | None, hidden_size: int | None = None) -> Expected:
    """What is known of `model`. A `hidden_size` that is given goes before its config's."""
    if model is None:
        return Expected(hidden_size=hidden_size)
    name, config = config_at_hand(model)
    inner = config.get("text_config")
    text: dict[str, Any] = inner if isinstance(inner, dict) else config
    kind = config.get("model_type")
    return Expected(
        name=name,
        hidden_size=hidden_size or _count(text, "hidden_size", "n_embd", "d_model"),
        n_layers=_count(text, "num_hidden_layers", "n_layer", "num_layers"),
        model_type=kind if isinstance(kind, str) else None,
    )


def _count(config: dict[str, Any], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if type(value) is int and value > 0), None)


def hold(vector: SteeringVector, wanted: Expected, path: Path) -> SteeringVector:
    """`vector`, of the wanted model from here on. InputError where it can't be of it."""
    if wanted.hidden_size is not None and vector.hidden_size != wanted.hidden_size:
        raise InputError(
            f"{path}: its directions are {vector.hidden_size} wide, not {wanted.hidden_size}"
            f"{f' as {wanted.name}' if wanted.name else ''}: they are of another model"
        )
    if wanted.n_layers is not None and max(vector.directions) >= wanted.n_layers:
        raise InputError(
            f"{path}: it has layer {max(vector.directions)}, and {wanted.name} layers 0 to {wanted.n_layers - 1}: "
            "it is of another model"
        )
    if wanted.name is None:
        return vector
    vector = vector.model_copy(update={"model": wanted.name})
    told = str(vector.metadata.get("model_type") or "").replace(UNKNOWN, "")
    if wanted.model_type is None:
        shape = f"width {vector.hidden_size}" + (f" and architecture {told}" if told else "")
        return note(vector, f"{shape} not compared with {wanted.name}, whose config is not on this machine")
    if told in ("", wanted.name) or _same(told, wanted.model_type):
        return vector
    if squashed(told) in known_model_types():
        raise InputError(
            f"{path}: made for {told}, and {wanted.name} is {wanted.model_type}; leave the model out to import it "
            "all the same"
        )
    return note(vector, f"made for {told!r}, no architecture that is known; not compared with {wanted.model_type}")


def _same(told: str, model_type: str) -> bool:
    wanted = squashed(model_type)
    return squashed(told) in (wanted, SAME_IN_LLAMA_CPP.get(wanted))
