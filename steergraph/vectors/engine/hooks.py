"""Steering inside a running model: hooks that are installed once and read per-row tensors.

Knows blocks, rows and positions. Knows nothing of vectors' names, doses or requests: `plans` turns those into tensors.
While a batch is active, each forward must be announced with `ActiveBatch.at`, which says where its columns stand.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steergraph.vectors.engine.layers import decoder_layers, hidden_of, replace_hidden
from steergraph.vectors.library import SteeringError

PROMPT, GENERATED = 0, 1
"""The two levels of an edit: before the last prompt token, and from it on."""


@dataclass(frozen=True)
class LayerEdit:
    """What is done to the rows of a batch at one layer. Everything already summed, in float32."""

    delta: torch.Tensor
    """[rows, 2, hidden]: added at each level."""
    basis: torch.Tensor | None
    """[rows, 2, k, hidden]: orthonormal directions removed before adding, zeros where a row has fewer than k."""
    touched: torch.Tensor
    """[rows, 2] bool: whether the row is edited at that level at all."""

    def select(self, rows: torch.Tensor) -> "LayerEdit":
        """The edit of a batch that keeps only `rows`."""
        return LayerEdit(self.delta[rows], None if self.basis is None else self.basis[rows], self.touched[rows])

    def to(self, device: torch.device) -> "LayerEdit":
        if self.delta.device == device:
            return self
        basis = None if self.basis is None else self.basis.to(device)
        return LayerEdit(self.delta.to(device), basis, self.touched.to(device))


def apply_edit(hidden: torch.Tensor, edit: LayerEdit, level: torch.Tensor, on: torch.Tensor) -> torch.Tensor:
    """`hidden` [rows, tokens, hidden] edited where `on` [rows, tokens] and the edit's `touched` agree; `level` [rows,
    tokens] chooses the edit's level. Every other position keeps its bits: it is selected, not added to with zero."""
    active = on & edit.touched.gather(1, level)
    edited = hidden.float()
    if edit.basis is not None:
        for which in (PROMPT, GENERATED):
            inside = torch.einsum("bth,bkh->btk", edited, edit.basis[:, which])
            removed = torch.einsum("btk,bkh->bth", inside, edit.basis[:, which])
            edited = torch.where((level == which)[..., None], edited - removed, edited)
    edited = edited + torch.take_along_dim(edit.delta, level[..., None], dim=1)
    # One cast, after everything is added: half precision would round away what is small against the residual.
    return torch.where(active[..., None], edited.to(hidden.dtype), hidden)


class ActiveBatch:
    """The steering of the batch that is running now."""

    def __init__(self, edits: Mapping[int, LayerEdit]) -> None:
        self.edits = dict(edits)
        self.level = torch.zeros(0, 0, dtype=torch.long)
        self.on = torch.zeros(0, 0, dtype=torch.bool)
        self.thread = threading.get_ident()

    def at(self, level: torch.Tensor, on: torch.Tensor) -> None:
        """Announce the next forward's columns: each one's level, and whether it may be edited (never at a pad)."""
        self.level, self.on = level, on

    def select(self, rows: torch.Tensor) -> None:
        """Rows have left the batch; `rows` are those that stay."""
        self.edits = {layer: edit.select(rows.to(edit.delta.device)) for layer, edit in self.edits.items()}

    def edit(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """`hidden` with this layer's edit, or None where the layer has none."""
        edit = self.edits.get(layer)
        if edit is None:
            return None
        if hidden.shape[:2] != self.level.shape:
            raise SteeringError(
                f"layer {layer} ran on {tuple(hidden.shape[:2])} rows, tokens; announced: {tuple(self.level.shape)}"
            )
        if edit.delta.device != hidden.device:
            # A model may be spread over devices: the tensors follow the layer's hidden states, and stay there.
            edit = self.edits[layer] = edit.to(hidden.device)
        return apply_edit(hidden, edit, self.level.to(hidden.device), self.on.to(hidden.device))


class SteeringHooks:
    """**The model is changed**: each of its decoder layers gets one hook, until `remove()`. Without an active batch the
    hooks do nothing, and forwards of other threads than the one that opened the batch are left alone."""

    def __init__(self, model: nn.Module) -> None:
        """Raises SteeringError where `model` has no decoder layers."""
        self._batch: ActiveBatch | None = None
        self._handles = [
            layer.register_forward_hook(self._hook(index)) for index, layer in enumerate(decoder_layers(model))
        ]

    def _hook(self, layer: int) -> Any:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> Any:
            batch = self._batch
            if batch is None or (not torch.compiler.is_compiling() and batch.thread != threading.get_ident()):
                return None
            edited = batch.edit(layer, hidden_of(output))
            return None if edited is None else replace_hidden(output, edited)

        return hook

    @contextmanager
    def steering(self, edits: Mapping[int, LayerEdit]) -> Iterator[ActiveBatch]:
        """Steer this thread's forwards with `edits` (by layer) until the block ends, however it ends."""
        if self._batch is not None:
            raise RuntimeError("the model is already steered by another batch")
        self._batch = ActiveBatch(edits)
        try:
            yield self._batch
        finally:
            self._batch = None

    def remove(self) -> None:
        """Take these hooks, and no others, off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
