"""A model's activations on sequences of token ids: the residual behind every block, at the places that are asked for.

Knows blocks, padding, massive activations and what the median residual norm is. Knows nothing of prompts or contrasts.
Reads each block's output with its own hooks, registered last, so that it sees what the next block sees;
`output_hidden_states` misses later hooks and ends after the final norm. Every sum is in float32 or wider, pads never
count, and the result does not depend on how sequences share batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steergraph.base.errors import InputError
from steergraph.engine.activations import ReadPosition
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.layers import decoder_layers, hidden_of
from steergraph.engine.loading.models import LoadedModel

CHUNK = 16
"""Sequences between two reports of progress."""
MASSIVE = 10.0
"""A token whose residual is longer than so many times its text's median is a massive activation: it says nothing of the
text, and would drown the rest of a mean. (Sun et al. 2024, "Massive activations in large language models".)"""

Span = tuple[int, int]
"""Tokens [start, end) of a sequence."""
Report = Callable[[int], None]
"""Called after each chunk with how many sequences it had."""


@dataclass(frozen=True)
class Activations:
    """Residuals of n sequences, float32 on the CPU; index k of `layers` is the output of block k."""

    at: Mapping[ReadPosition, torch.Tensor]
    """[layers, n, hidden] by read position: at one token, or the mean over a span without its massive tokens."""
    medians: torch.Tensor
    """[layers, n]: median length of the residual over each sequence's tokens, the first left out."""
    massive: torch.Tensor
    """[layers]: tokens left out of means for being massive; first tokens, which often are, not counted."""


def median_norms(*parts: Activations) -> torch.Tensor:
    """[layers]: the median residual norm over the texts of `parts`, by which doses are measured everywhere.

    The median over texts of each one's median over its tokens, the first left out: every text counts once, however long
    it is, and neither first tokens nor massive ones move it. The texts are prompts as the model gets them, with its
    chat template: pocket's residuals are up to 9 % longer with it than those of the bare text.
    """
    return torch.cat([part.medians for part in parts], dim=1).quantile(0.5, dim=1)


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


def sequence_activations(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    spans: Mapping[ReadPosition, Sequence[Span]] | None = None,
    *,
    where: str = "sequences",
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> Activations:
    """Run `sequences` (token ids, as the model should see them, special tokens included) and read every block.

    `spans` says of each read position where it is in each sequence; None is the last token and the mean over all but
    the first. `where` opens an error's line. Raises InputError for no sequences, an empty one, or one longer than the
    model's window.
    """
    info = loaded.info
    if not sequences:
        raise InputError("nothing to read: no texts")
    for index, sequence in enumerate(sequences):
        if not 1 <= len(sequence) <= info.window:
            limit = f"more than the window of {info.name} ({info.window})" if sequence else "nothing to read"
            raise InputError(f"{where}: text {index} has {len(sequence)} tokens, {limit}")
    if spans is None:
        lengths = [len(sequence) for sequence in sequences]
        spans = {
            "last_prompt_token": [(n - 1, n) for n in lengths],
            "prompt_mean": [(min(1, n - 1), n) for n in lengths],
        }
    at = {position: torch.empty(info.n_layers, len(sequences), info.hidden_size) for position in spans}
    medians, massive = torch.empty(info.n_layers, len(sequences)), torch.zeros(info.n_layers, dtype=torch.long)
    forward = Forward(loaded)
    for first in range(0, len(sequences), CHUNK):
        chunk = range(first, min(first + CHUNK, len(sequences)))
        order = sorted(chunk, key=lambda row: len(sequences[row]))  # neighbours in length: little is padded
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            padded = pad_left([sequences[row] for row in rows], loaded.pad_id, loaded.device)
            with loaded.lock, torch.no_grad(), block_outputs(loaded.model) as seen:
                forward(padded.ids, padded.mask, padded.positions)
            places = padded.positions.cpu()
            for layer, output in seen.items():
                # float32 before any sum: half precision overflows in norms and loses digits in means.
                hidden = output.float()
                norms = hidden.norm(dim=-1).cpu()
                for index, row in enumerate(rows):
                    counted = places[index] >= (1 if len(sequences[row]) > 1 else 0)
                    median = norms[index][counted].quantile(0.5)
                    huge = norms[index] > MASSIVE * median
                    medians[layer, row] = median
                    massive[layer] += int((huge & counted).sum())
                    for position, of_sequences in spans.items():
                        at[position][layer, row] = _mean(hidden[index], places[index], of_sequences[row], huge)
        report(len(chunk))
    return Activations(at, medians, massive)


def _mean(hidden: torch.Tensor, places: torch.Tensor, span: Span, huge: torch.Tensor) -> torch.Tensor:
    low, high = span
    inside = (places >= low) & (places < high)
    calm = inside & ~huge
    used = calm if high - low > 1 and bool(calm.any()) else inside
    return hidden[used.to(hidden.device)].mean(dim=0).cpu()
