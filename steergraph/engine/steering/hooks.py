"""Steering inside a running model: hooks that read the patches of the forward that runs.

Knows blocks and the batch that is active. Knows nothing of vectors, doses or requests: `plans` turns those into
tensors, `patches` lays them out. While a batch is active, each forward must be announced with `ActiveBatch.at`, which
says where its columns stand.

A block's output is edited in place: nothing is allocated, and whoever else holds that tensor (transformers' own hooks
for `output_hidden_states`, say) sees what the next block sees. Only blocks that are being steered have a hook, and it
is their first one, so that other hooks see steered states whenever they were registered.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from steergraph.engine.loading.layers import decoder_layers, hidden_of, replace_hidden
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.steering.interventions import Patch, Piece, layer_patches, pieces_of, without
from steergraph.engine.steering.plans import PlacedPlan


class ActiveBatch:
    """The steering of the batch that is running now, row by row."""

    def __init__(
        self,
        plans: Sequence[PlacedPlan],
        device: torch.device,
        install: Callable[[Iterable[int]], None] = lambda layers: None,
    ) -> None:
        """`install` is told the layers of every new set of patches, before a forward needs them."""
        self._install = install
        self._plans = list(plans)
        self._device = device
        self._pieces: list[tuple[Piece, ...]] = []
        self.patches: dict[int, tuple[Patch, ...]] = {}
        """By layer, for the forward that was announced last."""
        self.rows = self.width = 0
        """Its shape."""
        self.announced = self.reached = False
        """Whether any patch was announced, and whether any was applied."""
        self.thread = threading.get_ident()

    def at(
        self,
        starts: Sequence[int],
        width: int,
        on: Sequence[bool] | None = None,
        suspended: Sequence[Collection[int]] | None = None,
    ) -> None:
        """Announce the next forward: row k's first of `width` columns is its position `starts[k]` (negative at a pad),
        and it is steered unless `on[k]` is false, except at its positions `suspended[k]`. Costs nothing where it is
        like the last one, as in decoding."""
        pieces = [
            pieces_of(plan, start, width) if plan.spans and (on is None or on[row]) else ()
            for row, (plan, start) in enumerate(zip(self._plans, starts, strict=True))
        ]
        if suspended is not None:
            holes = [[p - start for p in off] for off, start in zip(suspended, starts, strict=True)]
            pieces = [without(found, off) if off else found for found, off in zip(pieces, holes, strict=True)]
        if pieces != self._pieces or width != self.width:
            self._pieces = pieces
            self.patches = layer_patches(self._plans, pieces, width, self._device)
            if self.patches:
                self.announced = True
                self._install(self.patches)
        self.rows, self.width = len(pieces), width

    def select(self, rows: Sequence[int]) -> None:
        """Rows have left the batch; `rows` are those that stay, in their new order."""
        self._plans = [self._plans[row] for row in rows]
        self._pieces = []

    def join(self, plans: Sequence[PlacedPlan]) -> None:
        """Rows have come in behind those that are there."""
        self._plans.extend(plans)
        self._pieces = []

    def edit(self, layer: int, hidden: torch.Tensor) -> None:
        """Edit `hidden` [rows, width, hidden] in place, as this layer's patches say."""
        patches = self.patches.get(layer)
        if patches is None:
            return
        if hidden.shape[0] != self.rows or hidden.shape[1] != self.width:
            raise SteeringError(
                f"layer {layer} ran on {tuple(hidden.shape[:2])} rows, tokens; announced: {(self.rows, self.width)}"
            )
        if hidden.device != patches[0].device:
            # A model may be spread over devices: the tensors follow the layer's hidden states, and stay there.
            patches = self.patches[layer] = tuple(patch.to(hidden.device) for patch in patches)
        self.reached = True
        for patch in patches:
            patch.apply(hidden)


class SteeringHooks:
    """**The model is changed** while a batch is active: the layers it steers have one hook each. Forwards of other
    threads than the one that opened the batch are left alone."""

    def __init__(self, model: nn.Module, *, resident: bool | None = None) -> None:
        """`resident` hooks are on every layer until `remove()`: a compiled model does not notice later ones. None is
        where `model` is compiled. Raises SteeringError where `model` has no decoder layers."""
        inside = getattr(model, "_orig_mod", model)
        self._layers = decoder_layers(inside)
        self._batch: ActiveBatch | None = None
        self._handles: dict[int, RemovableHandle] = {}
        compiled = inside is not model or any(getattr(m, "_compiled_call_impl", None) for m in inside.modules())
        self._resident = compiled if resident is None else resident
        if self._resident:
            self._install(range(len(self._layers)))

    def _install(self, layers: Iterable[int]) -> None:
        for layer in layers:
            if layer not in self._handles:
                hook = self._hook(layer)
                self._handles[layer] = self._layers[layer].register_forward_hook(hook, prepend=True)

    def _hook(self, layer: int) -> Any:
        def hook(_module: nn.Module, arguments: Any, output: Any) -> Any:
            batch = self._batch
            if batch is None or layer not in batch.patches:
                return None
            if not torch.compiler.is_compiling() and batch.thread != threading.get_ident():
                return None
            hidden = output if isinstance(output, torch.Tensor) else hidden_of(output)
            if hidden.requires_grad or (arguments and hidden is arguments[0]):
                # Someone else needs it as it is: for gradients, or because the layer hands on its own input.
                hidden = hidden.clone()
                batch.edit(layer, hidden)
                return replace_hidden(output, hidden)
            batch.edit(layer, hidden)
            return None

        return hook

    @contextmanager
    def steering(self, plans: Sequence[PlacedPlan], device: torch.device) -> Iterator[ActiveBatch]:
        """Steer this thread's forwards, row k by `plans[k]`, until the block ends, however it ends. `device` is where
        the hidden states are expected. Raises SteeringError where patches were announced and none was applied:
        steering that does nothing never goes unnoticed."""
        if self._batch is not None:
            raise RuntimeError("the model is already steered by another batch")
        batch = self._batch = ActiveBatch(plans, device, self._install)
        try:
            yield batch
        finally:
            self._batch = None
            if not self._resident:
                self.remove()
        if batch.announced and not batch.reached:
            raise SteeringError("the steering never reached the model: it was compiled before its hooks were there")

    def remove(self) -> None:
        """Take these hooks, and no others, off the model."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
