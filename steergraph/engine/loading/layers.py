"""Where a causal language model keeps its decoder layers, and how a layer's output is read and replaced.

Knows module trees and output containers. Knows nothing of steering: no dose, no vector, no hook lives here.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from steergraph.engine.steering.directions import SteeringError

# Llama-like (Qwen3, Gemma3 text, Phi3, LFM2, Mistral), multimodal wrappers, OPT-, GPT-2-, NeoX-, MPT- and Mamba-like.
PATHS = (
    "model.layers",
    "model.language_model.layers",
    "language_model.model.layers",
    "model.decoder.layers",
    "transformer.h",
    "transformer.layers",
    "transformer.blocks",
    "gpt_neox.layers",
    "backbone.layers",
)
FOREIGN_TOWERS = ("vision", "visual", "audio", "image", "encoder")


def _at(model: nn.Module, path: str) -> nn.ModuleList | None:
    module: Any = model
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return None
    return module if isinstance(module, nn.ModuleList) and len(module) else None


def _lists_of_length(model: nn.Module, length: int) -> Iterator[nn.ModuleList]:
    for name, module in model.named_modules():
        if any(tower in name for tower in FOREIGN_TOWERS):
            continue
        if isinstance(module, nn.ModuleList) and len(module) == length:
            yield module


def text_config(model: nn.Module) -> Any:
    """The text half of a model's configuration (the whole of it for a model that has only text)."""
    config: Any = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of `model`, first to last: `decoder_layers(model)[k]` outputs what k steers.

    Raises SteeringError where no list of layers is found.
    """
    for path in PATHS:
        found = _at(model, path)
        if found is not None:
            return found
    length = getattr(text_config(model), "num_hidden_layers", 0) if hasattr(model, "config") else 0
    found = next(_lists_of_length(model, length), None) if length else None
    if found is None:
        raise SteeringError(
            f"{type(model).__name__}: no decoder layers found (looked at {', '.join(PATHS)}); "
            "steering needs a decoder-only language model"
        )
    return found


def hidden_of(output: Any) -> torch.Tensor:
    """The hidden states [batch, tokens, hidden] in a layer's output.

    transformers 5 layers return the tensor itself, earlier ones a tuple that starts with it.
    """
    hidden = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(hidden, torch.Tensor) or hidden.dim() != 3:
        raise SteeringError(
            f"a decoder layer returned {type(output).__name__}, not hidden states [batch, tokens, hidden]"
        )
    return hidden


def replace_hidden(output: Any, hidden: torch.Tensor) -> Any:
    """`output` with its hidden states replaced, in the same container."""
    if isinstance(output, torch.Tensor):
        return hidden
    if hasattr(output, "_replace"):
        return output._replace(**{output._fields[0]: hidden})
    return type(output)((hidden, *output[1:]))
