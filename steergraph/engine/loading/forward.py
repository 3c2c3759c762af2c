"""One call of a model's forward on left-padded rows, whatever its signature.

Knows padding, position ids and the names under which models take a cache. Knows nothing of steering or sampling.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steergraph.engine.loading.models import LoadedModel


@dataclass(frozen=True)
class Padded:
    """Rows side by side, padded on the left."""

    ids: torch.Tensor
    """[rows, width] int64."""
    mask: torch.Tensor
    """[rows, width] int64: 1 where there is a token."""
    positions: torch.Tensor
    """[rows, width] int64: position in the row's own numbering; negative at pads."""


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Padded:
    """Put `sequences` (none of them empty) side by side, each ending in the last column."""
    width = max(len(sequence) for sequence in sequences)
    pads = [width - len(sequence) for sequence in sequences]
    ids = torch.tensor([[pad_id] * pad + list(row) for pad, row in zip(pads, sequences, strict=True)], device=device)
    positions = torch.arange(width, device=device) - torch.tensor(pads, device=device)[:, None]
    return Padded(ids=ids, mask=(positions >= 0).long(), positions=positions)


class Forward:
    """Calls `loaded.model` with the arguments that its forward takes."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        # A compiled model's own forward takes anything; the one inside says what it means.
        names = set(inspect.signature(getattr(loaded.model, "_orig_mod", loaded.model).forward).parameters)
        # transformers renamed `past_key_values` in the course of version 5.
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._takes_positions = "position_ids" in names
        self._takes_keep = "logits_to_keep" in names

    def __call__(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        *,
        cache: Any = None,
        use_cache: bool = False,
        keep: int = 1,
    ) -> tuple[torch.Tensor, Any]:
        """(logits of the last `keep` columns [rows, keep, vocabulary], the cache or None).

        `ids` and `positions` are the new columns, `mask` covers the cached ones too. The model makes its own cache
        where `cache` is None and `use_cache` is set: only it knows which of its layers slide or convolve.
        """
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": use_cache}
        if cache is not None:
            arguments[self._cache_name] = cache
        if self._takes_positions:
            arguments["position_ids"] = positions.clamp(min=0)
        if self._takes_keep:
            arguments["logits_to_keep"] = keep
        output = self._model(**arguments)
        grown = getattr(output, self._cache_name, None) if use_cache else None
        return output.logits[:, -keep:], grown if grown is not None else cache
