"""Residuals of given sequences at every layer: what vectors are extracted from.

Knows blocks, padding and massive activations. Knows nothing of prompts or contrasts. Reads each block's output with its
own hooks, registered last, so that it sees what the next block sees; `output_hidden_states` misses later hooks and ends
after the final norm.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steergraph.base.errors import InputError
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.layers import decoder_layers, hidden_of
from steergraph.engine.loading.models import LoadedModel

PLAIN_TEXT = "The committee met on Tuesday, read the report from last year and agreed to change two of its five points."


@dataclass(frozen=True)
class Captured:
    """Block outputs of n sequences, float32 on the CPU; index k of `layers` is the output of block k."""

    last: torch.Tensor
    """[layers, n, hidden]: at each sequence's last token."""
    mean: torch.Tensor
    """[layers, n, hidden]: mean over tokens without the first, whose activation is often a hundred times the rest.
    For a sequence of one token that token."""
    median_norm: torch.Tensor
    """[layers]: median length of the residual over all tokens of all sequences, without first tokens."""


@contextmanager
def block_outputs(model: nn.Module) -> Iterator[dict[int, torch.Tensor]]:
    """While open, every forward leaves each block's output [batch, tokens, hidden] in the yielded dict, by layer."""
    seen: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
            seen[layer] = hidden_of(output)

        return hook

    handles = [layer.register_forward_hook(keep(index)) for index, layer in enumerate(decoder_layers(model))]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def capture(loaded: LoadedModel, sequences: Sequence[Sequence[int]], *, batch_size: int = 8) -> Captured:
    """Run `sequences` (token ids, as the model should see them, special tokens included) and read every block.

    Raises InputError for no sequences, an empty one, or one longer than the model's window.
    """
    if not sequences:
        raise InputError("nothing to capture: no sequences")
    for index, sequence in enumerate(sequences):
        if not sequence:
            raise InputError(f"nothing to capture: sequence {index} is empty")
        if len(sequence) > loaded.info.window:
            raise InputError(
                f"sequence {index} has {len(sequence)} tokens, more than the window of {loaded.info.name} "
                f"({loaded.info.window})"
            )
    shape = (loaded.info.n_layers, len(sequences), loaded.info.hidden_size)
    last, mean = torch.empty(shape), torch.empty(shape)
    norms: list[list[float]] = [[] for _ in range(loaded.info.n_layers)]
    # Neighbours in length share a batch, so that little is padded.
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    forward = Forward(loaded)
    with loaded.lock, torch.no_grad(), block_outputs(loaded.model) as seen:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            padded = pad_left([sequences[row] for row in rows], loaded.pad_id, loaded.device)
            forward(padded.ids, padded.mask, padded.positions)
            counted = padded.positions >= 1
            for layer, output in seen.items():
                # float32 before any sum: half precision overflows in norms and loses digits in means.
                hidden, used = output.float(), counted.to(output.device)
                last[layer, rows] = hidden[:, -1].cpu()
                mean[layer, rows] = _mean(hidden, used).cpu()
                norms[layer].extend(hidden.norm(dim=-1)[used].tolist())
            seen.clear()
    return Captured(
        last=last, mean=mean, median_norm=torch.tensor([_median(values, last, k) for k, values in enumerate(norms)])
    )


def plain_medians(loaded: LoadedModel) -> list[float]:
    """The residual's median norm by layer, on plain text: for vectors that came without theirs."""
    ids = loaded.tokenizer(PLAIN_TEXT, add_special_tokens=False)["input_ids"]
    medians: list[float] = capture(loaded, [ids]).median_norm.tolist()
    return medians


def _mean(hidden: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    total = torch.where(used[..., None], hidden, 0.0).sum(dim=1)
    count = used.sum(dim=1, keepdim=True)
    return torch.where(count > 0, total / count.clamp(min=1), hidden[:, -1])


def _median(values: list[float], last: torch.Tensor, layer: int) -> float:
    lengths: list[float] = values or last[layer].norm(dim=-1).tolist()
    return statistics.median(lengths)
