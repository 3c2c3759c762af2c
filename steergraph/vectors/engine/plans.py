"""From a `Steering` and a library to tensors: what each row adds and removes at which layer.

Knows units, doses and what makes a vector fit a model. Knows nothing of hooks or forwards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from steergraph.vectors.engine.hooks import GENERATED, PROMPT, LayerEdit
from steergraph.vectors.engine.protocol import ModelInfo
from steergraph.vectors.library import Library, SteeringError, check_fits
from steergraph.vectors.steering import AppliedComponent, Component, Steering


@dataclass(frozen=True)
class RowPlan:
    """One row's steering as tensors, float32 on the CPU."""

    applied: tuple[AppliedComponent, ...] = ()
    adds: Mapping[int, torch.Tensor] = field(default_factory=dict)
    """[2, hidden] by layer: the sum of what is added at each level (`hooks.PROMPT`, `hooks.GENERATED`)."""
    bases: Mapping[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Orthonormal [k, hidden] by layer, for each level: what is removed."""

    def edits(self, level: int) -> bool:
        """Whether anything at all is done at `level`."""
        return any(bool(add[level].any()) for add in self.adds.values()) or any(
            len(bases[level]) for bases in self.bases.values()
        )


def check_steering(steering: Steering, library: Library, info: ModelInfo) -> None:
    """Raise SteeringError (one line) unless every component can be carried out on the model."""
    for component in steering.components:
        direction = _direction(component, library, info)
        median = library[component.vector].median_residual_norms.get(component.layer) or 1.0
        if not math.isfinite(float(_added(component, direction, median).norm())):
            raise SteeringError(f"vector {component.vector!r}: alpha {component.alpha:g} is beyond any model's numbers")


def plan_row(
    steering: Steering,
    library: Library,
    info: ModelInfo,
    measured_median: Callable[[int], float],
) -> RowPlan:
    """Tensors for one row. `measured_median(layer)` stands in where a vector does not know the residual's median norm.

    Components of one row and layer are summed before anything is added to the model. Directions to ablate are made
    orthonormal first, and removed before the sum is added. Raises SteeringError as `check_steering` does.
    """
    adds: dict[int, torch.Tensor] = {}
    directions: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    applied = []
    for component in steering.components:
        layer = component.layer
        levels = (PROMPT, GENERATED) if component.positions == "all" else (GENERATED,)
        direction = _direction(component, library, info)
        vector = library[component.vector]
        dose = 0.0
        if component.operation == "ablate":
            kept = directions.setdefault(layer, ([], []))
            for level in levels:
                kept[level].append(direction)
        else:
            median = vector.median_residual_norms.get(layer) or measured_median(layer)
            added = _added(component, direction, median)
            total = adds.setdefault(layer, torch.zeros(2, len(direction)))
            for level in levels:
                total[level] += added
            dose = float(added.norm()) / median if median else 0.0
        applied.append(AppliedComponent(**component.model_dump(), vector_hash=vector.hash, relative_dose=dose))
    bases = {layer: (_orthonormal(kept[PROMPT]), _orthonormal(kept[GENERATED])) for layer, kept in directions.items()}
    return RowPlan(tuple(applied), adds, bases)


def stack_plans(plans: Sequence[RowPlan], hidden_size: int, device: torch.device) -> dict[int, LayerEdit]:
    """The batch's edits by layer: row k of every tensor is `plans[k]`. Layers that no row edits are absent."""
    layers = {layer for plan in plans for layer in (*plan.adds, *plan.bases)}
    return {layer: edit for layer in sorted(layers) if (edit := _stack(plans, layer, hidden_size, device)) is not None}


def _stack(plans: Sequence[RowPlan], layer: int, hidden_size: int, device: torch.device) -> LayerEdit | None:
    delta = torch.zeros(len(plans), 2, hidden_size)
    rank = max((len(basis) for plan in plans for basis in plan.bases.get(layer, ())), default=0)
    basis = torch.zeros(len(plans), 2, rank, hidden_size)
    for row, plan in enumerate(plans):
        if layer in plan.adds:
            delta[row] = plan.adds[layer]
        for level, directions in enumerate(plan.bases.get(layer, ())):
            basis[row, level, : len(directions)] = directions
    touched = delta.ne(0).any(dim=-1) | basis.ne(0).flatten(2).any(dim=-1)
    if not bool(touched.any()):
        return None
    return LayerEdit(delta.to(device), basis.to(device) if rank else None, touched.to(device))


def _direction(component: Component, library: Library, info: ModelInfo) -> torch.Tensor:
    """The component's direction [hidden], float32, raw; SteeringError where it does not fit."""
    vector, layer = library[component.vector], component.layer
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


def _orthonormal(directions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Orthonormal rows that span `directions`; nearly parallel ones count once."""
    kept: list[torch.Tensor] = []
    for direction in directions:
        rest = direction.double() / direction.double().norm()
        for other in kept:
            rest = rest - (rest @ other) * other
        if rest.norm() > 1e-4:
            kept.append(rest / rest.norm())
    return torch.stack(kept).float() if kept else torch.zeros(0, 0)
