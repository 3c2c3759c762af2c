"""Steering inside a running model: hooks that read the interventions of the forward that runs.

Knows blocks and the batch that is active. Knows nothing of vectors, doses or requests: `plans` turns those into
tensors, `interventions` lays them out. While a batch is active, each forward must be announced with `ActiveBatch.at`,
which says where its columns stand.

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
from steergraph.engine.steering.interventions import Intervention, Segment, layer_interventions, segments_of, without
from steergraph.engine.steering.plans import PlacedPlan


class ActiveBatch:
    """The steering of the batch that is running now, row by row."""

    def __init__(
        self,
        plans: Sequence[PlacedPlan],
        device: torch.device,
        install: Callable[[Iterable[int]], None] = lambda layers: None,
    ) -> None:
        """`install` is told the layers of every new set of interventions, before a forward needs them."""
        self._install = install
        self._plans = list(plans)
        self._device = device
        self._segments: list[tuple[Segment, ...]] = []
        self.interventions: dict[int, tuple[Intervention, ...]] = {}
        """By layer, for the forward that was announced last."""
        self.rows = self.width = 0
        """Its shape."""
        self.announced = self.reached = False
        """Whether any intervention was announced, and whether any was applied."""
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
        segments = [
            segments_of(plan, start, width) if plan.spans and (on is None or on[row]) else ()
            for row, (plan, start) in enumerate(zip(self._plans, starts, strict=True))
        ]
        if suspended is not None:
            holes = [[p - start for p in off] for off, start in zip(suspended, starts, strict=True)]
            segments = [without(one, off) if off else one for one, off in zip(segments, holes, strict=True)]
        if segments != self._segments or width != self.width:
            self._segments = segments
            self.interventions = layer_interventions(self._plans, segments, width, self._device)
            if self.interventions:
                self.announced = True
                self._install(self.interventions)
        self.rows, self.width = len(segments), width

    def edit(self, layer: int, hidden: torch.Tensor) -> None:
        """Edit `hidden` [rows, width, hidden] in place, as this layer's interventions say."""
        here = self.interventions.get(layer)
        if here is None:
            return
        if hidden.shape[0] != self.rows or hidden.shape[1] != self.width:
            raise SteeringError(
                f"layer {layer} ran on {tuple(hidden.shape[:2])} rows, tokens; announced: {(self.rows, self.width)}"
            )
        if hidden.device != here[0].device:
            # A model may be spread over devices: the tensors follow the layer's hidden states, and stay there.
            here = self.interventions[layer] = tuple(one.to(hidden.device) for one in here)
        self.reached = True
        for intervention in here:
            intervention.apply(hidden)


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
            if batch is None or layer not in batch.interventions:
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
        the hidden states are expected. Raises SteeringError where interventions were announced and none was applied:
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
