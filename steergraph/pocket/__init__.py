"""Pocket: the embedded models, small enough to live in the repository: their weights, and where these lie.

Knows nothing of engines, graphs or vectors. How they were made is in the repository's `training/`.
"""

from importlib.resources import files
from pathlib import Path

from steergraph.base.errors import InputError

PURPOSE = (
    "pocket is a 2.7 M parameter model for trying steergraph out: it repairs one-line defects in short functions;"
    " for your own repository name another model, for example --model Qwen/Qwen3-4B"
)


MODELS = {"pocket": "weights", "pocket-base": "weights_base"}
"""The embedded models by name, each with its folder: the one that follows prompts, and the one that continues text."""


def weights_path(name: str = "pocket") -> Path:
    """The folder with weights and tokenizer of one of MODELS. Raises InputError where this installation lacks them."""
    folder = Path(str(files("steergraph.pocket").joinpath(MODELS[name])))
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder}: {name}'s weights are missing; install steergraph again or name another --model")
    return folder
