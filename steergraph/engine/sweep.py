"""The next token after each prompt, for every layer and every alpha of one vector, in a fraction of the forwards.

Knows blocks, residuals and caches. Knows nothing of what a grid is for. All cells of a prompt share one walk through
the blocks: it begins at the lowest layer of the grid, on the residual that an unsteered forward left there, and at each
layer of the grid that layer's cells join it as new rows. So no block is run for a cell below the cell's own layer, and
each block is run once for all cells above theirs. With `generated` positions only the last token walks, over an
unsteered cache of what is before it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import nn

from steergraph.base.errors import InputError
from steergraph.engine.activations.capture import plain_medians
from steergraph.engine.loading.forward import Forward
from steergraph.engine.loading.layers import decoder_layers, hidden_of, replace_hidden
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.steering.plans import RowPlan, check_steering, plan_row
from steergraph.engine.steering.records import Component, Positions, Steering, TokenRange, Unit
from steergraph.vectors.library import Library, SteeringVector

MAX_TOKENS = 16384
"""Tokens (cells times columns) that one walk may carry at once."""
MAX_LOGITS = 2**27
Cell = tuple[int, int]
"""Index of a layer and of an alpha in their grid."""


@dataclass(frozen=True)
class FirstTokenGrid:
    """Log-probabilities of the first generated token, float32 on the CPU, natural logarithms."""

    layers: tuple[int, ...]
    alphas: tuple[float, ...]
    unsteered: torch.Tensor
    """[prompts, vocabulary]"""
    logprobs: torch.Tensor
    """[prompts, layers, alphas, vocabulary]"""
    relative_doses: torch.Tensor
    """[layers, alphas]: norm of what was added over the median residual norm at that layer."""


class Owner(Protocol):
    """An engine in this process: `LocalEngine`."""

    @property
    def loaded(self) -> LoadedModel: ...

    def run(self, work: Callable[[], "FirstTokenGrid"]) -> "FirstTokenGrid": ...


def first_token_grid(
    source: LoadedModel | Owner,
    prompts: Sequence[Sequence[int]],
    vector: SteeringVector,
    layers: Sequence[int],
    alphas: Sequence[float],
    *,
    unit: Unit = "unit_vector",
    positions: Positions | TokenRange = "all",
    max_tokens: int = MAX_TOKENS,
) -> FirstTokenGrid:
    """Equal to one steered forward a cell, within rounding. `prompts` are token ids, special tokens included.

    On an engine it runs in the engine's own thread, between two steps of what is generated there. A walk carries at
    most `max_tokens`, cells times columns; a larger grid takes several. Raises InputError for an empty grid or prompt
    and for a prompt longer than the window, SteeringError where the vector does not fit.
    """
    if not isinstance(source, LoadedModel):
        return source.run(
            lambda: first_token_grid(
                source.loaded, prompts, vector, layers, alphas, unit=unit, positions=positions, max_tokens=max_tokens
            )
        )
    loaded = source
    if not (prompts and layers and alphas):
        raise InputError("a grid needs at least one prompt, one layer and one alpha")
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    for index, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= loaded.info.window:
            raise InputError(
                f"prompt {index}: {len(prompt)} tokens; {loaded.info.name} takes 1 to {loaded.info.window}"
            )
        wrong = next((token for token in prompt if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise InputError(f"prompt {index}: token id {wrong}; {loaded.info.name} has ids 0 to {vocabulary - 1}")
    cells = [(row, column) for row in range(len(layers)) for column in range(len(alphas))]
    try:
        steerings = [
            Steering(
                components=(Component(vector=vector.name, layer=layer, alpha=alpha, unit=unit, positions=positions),)
            )
            for layer in layers
            for alpha in alphas
        ]
    except ValidationError as error:
        raise InputError(f"this grid can't be: {error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    library = Library({vector.name: vector})
    for steering in steerings:
        check_steering(steering, library, loaded.info)
    medians = plain_medians(loaded) if any(not vector.median_residual_norms.get(layer) for layer in layers) else []
    plans = {
        cell: plan_row(steering, library, loaded.info, lambda layer: medians[layer])
        for cell, steering in zip(cells, steerings, strict=True)
    }
    shape = (len(prompts), len(layers), len(alphas))
    doses = torch.tensor(
        [[plans[row, column].applied[0].relative_dose for column in range(shape[2])] for row in range(shape[1])]
    )
    unsteered = []
    logprobs = torch.empty(0)
    for index, prompt in enumerate(prompts):
        with loaded.lock, torch.inference_mode():
            walk = _Walk(loaded, prompt, {cell: layers[cell[0]] for cell in plans}, plans, max_tokens)
            base, walked = walk.run()
            unsteered.append(base)
            logprobs = logprobs if index else torch.empty(*shape, len(base))
            for (row, column), found in walked:
                logprobs[index, row, column] = found
    return FirstTokenGrid(tuple(layers), tuple(alphas), torch.stack(unsteered), logprobs, doses)


class _Walk:
    """One prompt's grid."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompt: Sequence[int],
        cells: Mapping[Cell, int],
        plans: Mapping[Cell, RowPlan],
        max_tokens: int,
    ) -> None:
        self._loaded = loaded
        self._forward = Forward(loaded)
        self._layers = decoder_layers(getattr(loaded.model, "_orig_mod", loaded.model))
        self._cells = sorted(cells, key=lambda cell: (cells[cell], cell))
        self._layer_of, self._plans, self._length = cells, plans, len(prompt)
        placed = [plans[cell].place(len(prompt)) for cell in self._cells]
        # Whatever is before the first steered token is the same in every cell: it is run once, and cached.
        first = min((start for one in placed for start, end in one.spans if start < end), default=len(prompt) - 1)
        self._start = min(first, len(prompt) - 1)
        self._width = len(prompt) - self._start
        self._ids = torch.tensor([list(prompt)], device=loaded.device)
        self._mask = torch.ones_like(self._ids)
        self._places = torch.arange(len(prompt), device=loaded.device)[None]
        vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
        self._room = max(1, min(max_tokens // self._width, MAX_LOGITS // vocabulary))

    def run(self) -> tuple[torch.Tensor, Iterator[tuple[Cell, torch.Tensor]]]:
        """(unsteered log-probabilities [vocabulary], those of every cell)."""
        cache = None
        if self._start:
            ids, mask, places = (t[:, : self._start] for t in (self._ids, self._mask, self._places))
            _, cache = self._forward(ids, mask, places, use_cache=True)
        outputs: dict[int, Any] = {}
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers):
                stack.callback(layer.register_forward_hook(_keep(outputs, index)).remove)
            unsteered = self._last(_rows_of(cache, {}))[0]
        return unsteered, self._grid(cache, outputs)

    def _grid(self, cache: Any, outputs: Mapping[int, Any]) -> Iterator[tuple[Cell, torch.Tensor]]:
        together = True
        waiting = list(self._cells)
        while waiting:
            group = waiting[: self._room]
            if not together:
                group = [cell for cell in group if self._layer_of[cell] == self._layer_of[group[0]]]
            try:
                found = self._group(group, cache, outputs, 1 if together else len(group))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                # A model whose masks don't broadcast over rows: then rows are there from the start, layer by layer.
                if not together:
                    raise
                together = False
                continue
            yield from zip(group, found, strict=True)
            waiting = waiting[len(group) :]

    def _group(self, group: Sequence[Cell], cache: Any, outputs: Mapping[int, Any], entering: int) -> torch.Tensor:
        rows = {k: sum(self._layer_of[cell] < k for cell in group) for k in range(len(self._layers))}
        with self._joining(group, outputs):
            return self._last(_rows_of(cache, rows), entering)

    def _last(self, cache: Any, rows: int = 1) -> torch.Tensor:
        """Log-probabilities [rows, vocabulary] after the last token, from the columns that are not cached."""
        ids, mask, places = (t.expand(rows, -1) for t in (self._ids, self._mask, self._places))
        start = self._start
        logits, _ = self._forward(ids[:, start:], mask, places[:, start:], cache=cache, use_cache=cache is not None)
        return logits[:, -1].float().log_softmax(dim=-1).cpu()

    @contextmanager
    def _joining(self, group: Sequence[Cell], outputs: Mapping[int, Any]) -> Iterator[None]:
        """Blocks below the group's lowest layer hand on what they get; from there on its cells join."""
        lowest = self._layer_of[group[0]]
        with ExitStack() as stack:
            for index in range(lowest + 1):
                stack.enter_context(_forward_of(self._layers[index], _handing_on(outputs[index])))
            for layer in sorted({self._layer_of[cell] for cell in group}):
                members = [cell for cell in group if self._layer_of[cell] == layer]
                hook = self._hook(
                    torch.cat([self._steered(cell, hidden_of(outputs[layer])) for cell in members]), layer == lowest
                )
                stack.callback(self._layers[layer].register_forward_hook(hook).remove)
            yield

    def _hook(self, rows: torch.Tensor, first: bool) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> Any:
            return replace_hidden(output, rows if first else torch.cat([hidden_of(output), rows]))

        return hook

    def _steered(self, cell: Cell, base: torch.Tensor) -> torch.Tensor:
        """The residual [1, columns, hidden] at the cell's layer, edited as its plan says."""
        hidden, plan = base.clone(), self._plans[cell]
        for start, end, active in plan.place(self._length).pieces(self._start, self._length):
            delta = plan.edit(self._layer_of[cell], active).delta
            if delta is not None:
                hidden[:, start - self._start : end - self._start].add_(delta.to(hidden.device))
        return hidden


def _keep(outputs: dict[int, Any], layer: int) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
        outputs[layer] = output

    return hook


def _handing_on(output: Any) -> Callable[..., Any]:
    """A block that does nothing, in a container like `output`."""

    def forward(hidden_states: torch.Tensor, *_arguments: Any, **_options: Any) -> Any:
        return replace_hidden(output, hidden_states)

    return forward


@contextmanager
def _forward_of(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """`layer` runs `forward` instead of its own."""
    own = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own


def _rows_of(cache: Any, rows: Mapping[int, int]) -> Any:
    """A copy of a cache of one row that layer k sees as `rows[k]` equal rows (one where it is not named). What is
    stored is shared until a layer writes: keys and values are never written in place, convolution states are copied."""
    if cache is None:
        return None
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    for index, layer in enumerate(copied.layers):
        count = max(1, rows.get(index, 1))
        for name, value in vars(layer).items():
            if name in ("keys", "values") and isinstance(value, torch.Tensor):
                setattr(layer, name, value.expand(count, *value.shape[1:]))
            elif isinstance(value, dict):
                states = {
                    k: v.repeat(count, *[1] * (v.dim() - 1)) if torch.is_tensor(v) else v for k, v in value.items()
                }
                setattr(layer, name, states)
    return copied
