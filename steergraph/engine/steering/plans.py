"""From a `Steering` and a library to tensors: what each row adds and removes at which layer, and where.

Knows units, doses, positions and what makes a vector fit a model. Knows nothing of hooks, batches or forwards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch

from steergraph.engine.protocol import ModelInfo, Named
from steergraph.engine.steering.directions import SteeringError, check_fits, look_up
from steergraph.engine.steering.records import AppliedComponent, Component, Positions, Steering, TokenRange

FOREVER = 2**62
"""The end of a range that has none."""
Active = int
"""A set of a plan's ranges as bits: bit k is set where `ranges[k]` holds the position."""


@dataclass(frozen=True)
class SteeringPlan:
    """One row's steering as tensors, float32 on the CPU. The same for every prompt."""

    applied: tuple[AppliedComponent, ...] = ()
    ranges: tuple[TokenRange, ...] = ()
    """The distinct ranges of its components, as `Component.positions` means them."""
    adds: Mapping[int, torch.Tensor] = field(default_factory=dict)
    """[ranges, hidden] by layer: the sum of what is added in each range."""
    ablated: Mapping[int, tuple[tuple[torch.Tensor, ...], ...]] = field(default_factory=dict)
    """By layer and range: the directions [hidden] that are removed there."""
    _made: dict[tuple[int, Active], "LayerEdit"] = field(default_factory=dict, repr=False, compare=False)
    _edits: dict[Active, bool] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Every layer at which something may be done, in order."""
        return tuple(sorted({*self.adds, *self.ablated}))

    def edit(self, layer: int, active: Active) -> "LayerEdit":
        """What is done at `layer` where the ranges in `active` overlap. Made once, then kept."""
        edit = self._made.get((layer, active))
        if edit is None:
            within = [index for index in range(len(self.ranges)) if active >> index & 1]
            total = self.adds[layer][within].sum(dim=0) if layer in self.adds and within else None
            if total is not None and not bool(total.any()):
                total = None
            removed = self.ablated.get(layer, ((),) * len(self.ranges))
            basis = _orthonormal([direction for index in within for direction in removed[index]])
            edit = self._made[layer, active] = LayerEdit(total, basis)
        return edit

    def edits(self, active: Active) -> bool:
        """Whether anything at all is done where the ranges in `active` overlap."""
        if active not in self._edits:
            self._edits[active] = any(not self.edit(layer, active).empty for layer in self.layers)
        return self._edits[active]

    def place(self, prompt_tokens: int) -> "PlacedPlan":
        """The plan of a row whose prompt has so many tokens."""
        return PlacedPlan(self, tuple(_absolute(one, prompt_tokens) for one in self.ranges))


@dataclass(frozen=True)
class LayerEdit:
    """What is done to a residual: directions removed first, then one sum added."""

    delta: torch.Tensor | None
    """[hidden]"""
    basis: torch.Tensor | None
    """[k, hidden], orthonormal."""

    @property
    def empty(self) -> bool:
        return self.delta is None and self.basis is None


@dataclass(frozen=True)
class PlacedPlan:
    """A row's plan once its prompt is known."""

    plan: SteeringPlan
    spans: tuple[tuple[int, int], ...]
    """[start, end) of each of the plan's ranges, in the row's own numbering."""

    def active(self, position: int) -> Active:
        """The ranges that hold `position`."""
        active = 0
        for index, (start, end) in enumerate(self.spans):
            if start <= position < end:
                active |= 1 << index
        return active

    def segments(self, start: int, end: int) -> list[tuple[int, int, Active]]:
        """[start, end) cut where what is done changes, without the segments where nothing is."""
        if end - start == 1:
            active = self.active(start)
            return [(start, end, active)] if self.plan.edits(active) else []
        edges = {start, end, *(edge for span in self.spans for edge in span if start < edge < end)}
        cut = [(first, last, self.active(first)) for first, last in pairwise(sorted(edges))]
        return [(first, last, active) for first, last, active in cut if self.plan.edits(active)]


def check_steering(steering: Steering, library: Named, info: ModelInfo) -> None:
    """Raise SteeringError (one line) unless every component can be carried out on the model."""
    for component in steering.components:
        direction = _direction(component, library, info)
        median = look_up(library, component.vector).median_residual_norms.get(component.layer) or 1.0
        if not math.isfinite(float(_added(component, direction, median).norm())):
            raise SteeringError(f"vector {component.vector!r}: alpha {component.alpha:g} is beyond any model's numbers")


def plan_steering(
    steering: Steering,
    library: Named,
    info: ModelInfo,
    measured_median: Callable[[int], float],
) -> SteeringPlan:
    """Tensors for one row. `measured_median(layer)` stands in where a vector does not know the residual's median norm.

    Components of one row, layer and position are summed before anything is added to the model. Directions to ablate
    are made orthonormal first, and removed before the sum is added. Raises SteeringError as `check_steering` does.
    """
    ranges = tuple(dict.fromkeys(token_range(component.positions) for component in steering.components))
    adds: dict[int, torch.Tensor] = {}
    ablated: dict[int, list[list[torch.Tensor]]] = {}
    applied = []
    for component in steering.components:
        layer, place = component.layer, ranges.index(token_range(component.positions))
        direction = _direction(component, library, info)
        vector = look_up(library, component.vector)
        dose = 0.0
        if component.operation == "ablate":
            ablated.setdefault(layer, [[] for _ in ranges])[place].append(direction)
        else:
            median = vector.median_residual_norms.get(layer) or measured_median(layer)
            added = _added(component, direction, median)
            adds.setdefault(layer, torch.zeros(len(ranges), len(direction)))[place] += added
            dose = float(added.norm()) / median if median else 0.0
        applied.append(AppliedComponent(**component.model_dump(), vector_hash=vector.hash, relative_dose=dose))
    removed = {layer: tuple(map(tuple, by_range)) for layer, by_range in ablated.items()}
    return SteeringPlan(tuple(applied), ranges, adds, removed)


def token_range(positions: Positions | TokenRange) -> TokenRange:
    """`positions` as a range: from the first token, or from the last of the prompt, without an end."""
    if positions == "all":
        return (0, None)
    return (-1, None) if positions == "generated" else positions


def _absolute(tokens: TokenRange, prompt_tokens: int) -> tuple[int, int]:
    start, end = tokens
    start = max(0, prompt_tokens + start) if start < 0 else start
    if end is None:
        return start, FOREVER
    return start, prompt_tokens + end if end < 0 else end


def _direction(component: Component, library: Named, info: ModelInfo) -> torch.Tensor:
    """The component's direction [hidden], float32, raw; SteeringError where it does not fit."""
    vector, layer = look_up(library, component.vector), component.layer
    check_fits(vector, info, layer=layer)
    where = f"vector {component.vector!r}: its direction at layer {layer}"
    direction: torch.Tensor = vector.directions[layer].detach().float().cpu()
    if direction.shape != (info.hidden_size,):
        raise SteeringError(f"{where} has shape {tuple(direction.shape)}")
    length = float(direction.norm())
    if not math.isfinite(length):
        raise SteeringError(f"{where} has NaN or infinite entries")
    if length == 0.0:
        raise SteeringError(f"{where} is zero")
    return direction


def _added(component: Component, direction: torch.Tensor, median: float) -> torch.Tensor:
    per_alpha = direction if component.unit == "raw" else direction / direction.norm()
    scale = median if component.unit == "residual" else 1.0
    return per_alpha * (component.alpha * scale)


def _orthonormal(directions: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Orthonormal rows [k, hidden] that span `directions`; nearly parallel ones count once. None for no directions."""
    basis: list[torch.Tensor] = []
    for direction in directions:
        rest = direction.double() / direction.double().norm()
        for other in basis:
            rest = rest - (rest @ other) * other
        if rest.norm() > 1e-4:
            basis.append(rest / rest.norm())
    return torch.stack(basis).float() if basis else None
