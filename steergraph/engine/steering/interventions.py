"""The steering of one forward as tensors, laid out so that a hook has next to nothing to do.

Knows rows, columns and what is done to each. Knows nothing of hooks, vectors or doses.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from steergraph.engine.steering.plans import Active, LayerEdit, PlacedPlan

Segment = tuple[int, int, Active]
"""Columns [start, end) of a row, and the ranges of its plan that hold them."""


@dataclass(frozen=True, eq=False)
class Intervention:
    """Neighbouring rows that are edited in the same columns."""

    device: torch.device
    rows: slice
    columns: slice
    whole: bool
    """Whether it covers every row and column of the forward."""
    delta: torch.Tensor | None
    """[rows, 1, hidden] float32, added last. Rows without a share in it hold -0.0, the number whose sum with any other
    has that other's bits."""
    basis: torch.Tensor | None
    """[rows, k, hidden] float32, orthonormal: directions removed first."""
    inside: torch.Tensor | None
    """[rows, columns, k] float32: room for how much of each direction there is."""

    def to(self, device: torch.device) -> "Intervention":
        delta, basis, inside = (None if t is None else t.to(device) for t in (self.delta, self.basis, self.inside))
        return Intervention(device, self.rows, self.columns, self.whole, delta, basis, inside)

    def apply(self, hidden: torch.Tensor) -> None:
        """Edit `hidden` [rows, columns, hidden] in place."""
        part = hidden if self.whole else hidden[self.rows, self.columns]
        if self.basis is None:
            # Half precision is added in float32 and rounded once: addition promotes.
            part.add_(self.delta)  # type: ignore[arg-type]
        elif part.dtype == torch.float32:
            self._remove(part)
        else:
            exact = part.float()
            self._remove(exact)
            part.copy_(exact)

    def _remove(self, part: torch.Tensor) -> None:
        assert self.basis is not None and self.inside is not None
        torch.bmm(part, self.basis.transpose(1, 2), out=self.inside)
        part.baddbmm_(self.inside, self.basis, alpha=-1)
        if self.delta is not None:
            part.add_(self.delta)


def segments_of(plan: PlacedPlan, start: int, width: int) -> tuple[Segment, ...]:
    """Where a row is edited in a forward whose first column is its position `start` (negative at a pad)."""
    if width == 1:  # decoding: no need to look for where anything changes
        active = plan.active(start)
        return ((0, 1, active),) if plan.plan.edits(active) else ()
    end = start + width
    first = max(start, 0)
    return tuple((a - start, b - start, active) for a, b, active in plan.segments(first, end)) if first < end else ()


def without(segments: Sequence[Segment], columns: Collection[int]) -> tuple[Segment, ...]:
    """`segments` with holes at `columns`."""
    left = []
    for start, end, active in segments:
        edges = [start - 1, *sorted(column for column in columns if start <= column < end), end]
        left += [(a + 1, b, active) for a, b in pairwise(edges) if a + 1 < b]
    return tuple(left)


def layer_interventions(
    plans: Sequence[PlacedPlan], segments: Sequence[tuple[Segment, ...]], width: int, device: torch.device
) -> dict[int, tuple[Intervention, ...]]:
    """Those of a forward over `plans` and `width` columns, by layer. Layers where nothing is done are absent."""
    layers = sorted({layer for plan, own in zip(plans, segments, strict=True) if own for layer in plan.plan.layers})
    by_layer = {layer: tuple(_interventions(layer, plans, segments, width, device)) for layer in layers}
    return {layer: interventions for layer, interventions in by_layer.items() if interventions}


def _interventions(
    layer: int,
    plans: Sequence[PlacedPlan],
    segments: Sequence[tuple[Segment, ...]],
    width: int,
    device: torch.device,
) -> Iterator[Intervention]:
    # Each round takes one segment of every row that has one left, so that rows edited alike share an intervention.
    for turn in range(max(map(len, segments))):
        edits: list[tuple[slice, LayerEdit] | None] = []
        for plan, own in zip(plans, segments, strict=True):
            edit = plan.plan.edit(layer, own[turn][2]) if turn < len(own) else None
            edits.append((slice(*own[turn][:2]), edit) if edit is not None and not edit.empty else None)
        for first, last in _runs(edits, bridge=width == 1):
            run = [None if one is None else one[1] for one in edits[first:last]]
            columns = next(one[0] for one in edits[first:last] if one is not None)
            whole = last - first == len(plans) and (columns.start, columns.stop) == (0, width)
            yield _intervention(slice(first, last), columns, whole, run, device)


def _runs(edits: Sequence[tuple[slice, LayerEdit] | None], *, bridge: bool) -> Iterator[tuple[int, int]]:
    """[first, last) of neighbouring rows with the same columns. With `bridge`, rows without an edit between two that
    only add are taken along: cheaper than a second intervention where there is one column, and their bits stay."""
    first = last = 0  # the run so far; rows from `last` on are a gap
    for row, edit in enumerate(edits):
        if edit is None:
            continue
        joins = first < last and _alike(edits[last - 1], edit) and (row == last or (bridge and edit[1].basis is None))
        if not joins:
            if first < last:
                yield first, last
            first = row
        last = row + 1
    if first < last:
        yield first, last


def _alike(one: tuple[slice, LayerEdit] | None, other: tuple[slice, LayerEdit]) -> bool:
    return one is not None and one[0] == other[0] and (one[1].basis is None) == (other[1].basis is None)


def _intervention(
    rows: slice, columns: slice, whole: bool, edits: Sequence[LayerEdit | None], device: torch.device
) -> Intervention:
    own = [edit for edit in edits if edit is not None]
    hidden = next(t.shape[-1] for edit in own for t in (edit.basis, edit.delta) if t is not None)
    delta = basis = inside = None
    if any(edit.delta is not None for edit in own):
        delta = torch.full((len(edits), 1, hidden), -0.0)
        for row, edit in enumerate(edits):
            if edit is not None and edit.delta is not None:
                delta[row, 0] = edit.delta
        delta = delta.to(device)
    rank = max((len(edit.basis) for edit in own if edit.basis is not None), default=0)
    if rank:
        basis = torch.zeros(len(edits), rank, hidden)
        for row, edit in enumerate(edits):
            if edit is not None and edit.basis is not None:
                basis[row, : len(edit.basis)] = edit.basis
        basis = basis.to(device)
        inside = torch.empty(len(edits), columns.stop - columns.start, rank, device=device)
    return Intervention(device, rows, columns, whole, delta, basis, inside)
