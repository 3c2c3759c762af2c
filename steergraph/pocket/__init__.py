"""Pocket: the embedded model, small enough to live in the repository. Its corpus, its training, its weights.

Knows the prompts and the edit format from configs. Knows nothing of engines, graphs or vectors.
"""

from importlib.resources import files
from pathlib import Path

from steergraph.configs import InputError

PURPOSE = (
    "pocket is a 2.7 M parameter model for trying steergraph out: it repairs one-line defects in short functions;"
    " for your own repository name another model, for example --model Qwen/Qwen3-4B"
)


def weights_path() -> Path:
    """The folder with pocket's weights and tokenizer. Raises InputError where this installation lacks them."""
    folder = Path(str(files("steergraph.pocket").joinpath("weights")))
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder}: pocket's weights are missing; install steergraph again or name another --model")
    return folder
