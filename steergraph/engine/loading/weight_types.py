"""How a model's weights are held while it runs: what `--weights` means, and what stands for "auto".

Knows devices, files' sizes and what this torch can multiply. Never a clock: the same machine decides the same way.
"""

import json
import os
from pathlib import Path
from typing import get_args

import torch

from steergraph.base.errors import InputError
from steergraph.engine.loading.gguf.reader import read_gguf
from steergraph.engine.loading.half import LEAST_INPUTS, has_half_products
from steergraph.engine.loading.weights import weight_files
from steergraph.engine.protocol import WeightType


def held_as(weights: str, device: torch.device, place: Path, label: str) -> torch.dtype | None:
    """The type to load the model at `place` (a folder or a GGUF file) in; None: as the checkpoint has it, GGUF in
    bfloat16.

    "auto" on a GPU is None. On a CPU it is float16 where the model is wide enough to gain and the processor multiplies
    so, else float32 where that takes at most half of the memory, else None.

    Raises InputError for a name that is none, or float16 on a processor that can't.
    """
    if weights not in get_args(WeightType):
        raise InputError(f"weights {weights[:40]!r}: use {', '.join(get_args(WeightType))}")
    on_cpu = device.type == "cpu"
    if weights == "float16" and on_cpu and not has_half_products():
        raise InputError("weights 'float16': this processor has no products for it; use float32 or bfloat16")
    if weights != "auto":
        found: torch.dtype = getattr(torch, weights)
        return found
    if on_cpu and has_half_products() and _width(place, label) >= LEAST_INPUTS:
        return torch.float16
    if on_cpu and _float32_bytes(place, label) <= _memory() // 2:
        return torch.float32
    return None


def for_evidence() -> WeightType:
    """What a measurement of steering runs with: float32 on a CPU, the checkpoint's own type on a GPU."""
    return "auto" if torch.cuda.is_available() else "float32"


def _width(place: Path, label: str) -> int:
    """Entries of the residual; 0 where nothing says it: loading then says what is wrong."""
    if place.is_file():
        found = read_gguf(place, label).of_model("embedding_length")
    else:
        try:
            config = json.loads((place / "config.json").read_text(encoding="utf-8"))
            found = (config.get("text_config") or config).get("hidden_size")
        except (OSError, ValueError, AttributeError):
            return 0
    return found if isinstance(found, int) else 0


def _float32_bytes(place: Path, label: str) -> int:
    """Bytes that the weights take in float32; a checkpoint of safetensors is taken to have two for each."""
    if place.is_file():
        return 4 * read_gguf(place, label).parameters
    return 2 * sum(file.stat().st_size for file in weight_files(place, label))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**33
