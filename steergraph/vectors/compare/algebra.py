"""Sums of vectors, and how several lie to each other.

Knows vectors as numbers by layer. Knows nothing of models or of whether a sum does what its parts do: that is measured.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from steergraph.base.errors import InputError
from steergraph.vectors.vector import SteeringVector, make_vector

Scale = Literal["raw", "unit_vector"]


def weighted_sum(
    vectors: Sequence[SteeringVector],
    weights: Sequence[float],
    *,
    name: str,
    orthogonal: bool = False,
    scale: Scale = "raw",
) -> SteeringVector:
    """sum of weight times direction, at every layer that all of `vectors` have.

    `orthogonal`: each direction first loses what lies along those before it (Gram-Schmidt in the given order), so that
    adding a later one changes nothing along an earlier one. `scale` "unit_vector" brings every direction to length 1
    before it is weighted (and after it was made orthogonal), "raw" leaves it as extracted.

    Raises InputError where there is none, weights do not match, models or widths differ, no layer is shared, or the sum
    vanishes at every layer.
    """
    if not vectors or len(vectors) != len(weights):
        raise InputError(f"a sum needs a weight for each of its vectors: {len(weights)} for {len(vectors)}")
    if not all(map(_finite, weights)):
        raise InputError("a weight is not a finite number")
    check_alike(vectors)
    shared = sorted(set.intersection(*(set(vector.directions) for vector in vectors)))
    if not shared:
        raise InputError(f"{' and '.join(v.name for v in vectors[:3])} have no layer in common")
    directions: dict[int, torch.Tensor] = {}
    for layer in shared:
        parts = [vector.directions[layer].double() for vector in vectors]
        # The rounding left of parts that cancel is no direction.
        floor = 1e-6 * max(float(part.norm()) * abs(w) for part, w in zip(parts, weights, strict=True))
        parts = _gram_schmidt(parts) if orthogonal else parts
        if scale == "unit_vector":
            parts = [part / part.norm() if bool(part.norm() > 0) else part for part in parts]
            floor = 1e-6 * max(map(abs, weights))
        total = torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum(dim=0)
        if float(total.norm()) > floor:
            directions[layer] = total.float()
    if not directions:
        raise InputError(f"the sum of {' and '.join(v.name for v in vectors[:3])} is zero at every layer")
    first = vectors[0]
    return make_vector(
        name,
        directions,
        model=first.model,
        revision=_common([v.revision for v in vectors], ""),
        method="orthogonal_sum" if orthogonal else "weighted_sum",
        contrast_hash=_common([v.contrast_hash for v in vectors], ""),
        read_position=_common([v.read_position for v in vectors], "several"),
        median_residual_norms=_medians(vectors, list(directions)),
        settings={"weights": [float(w) for w in weights], "scale": scale, "names": [v.name for v in vectors]},
        parents=[v.hash for v in vectors],
        metadata={k: first.metadata[k] for k in ("n_layers", "architecture", "model_type") if k in first.metadata},
    )


def scaled(vector: SteeringVector, factor: float, *, name: str | None = None) -> SteeringVector:
    """`vector` times `factor`; its negation for -1. Raises InputError for 0 and what is not finite."""
    return weighted_sum([vector], [factor], name=name or vector.name)


def check_alike(vectors: Sequence[SteeringVector]) -> None:
    """Raise InputError unless all are of one model and width."""
    first = vectors[0]
    for other in vectors[1:]:
        if other.hidden_size != first.hidden_size:
            raise InputError(
                f"{first.name!r} is {first.hidden_size} wide and {other.name!r} {other.hidden_size}: they are of "
                "different models; project one first (steergraph vectors project)"
            )
        if other.model and first.model and other.model.lower() != first.model.lower():
            raise InputError(f"{first.name!r} is of {first.model} and {other.name!r} of {other.model}: one model only")


def cosine_table(vectors: Sequence[SteeringVector], layer: int) -> torch.Tensor:
    """[n, n], float64: cosines of the directions at `layer`. Raises InputError where one has none there."""
    check_alike(vectors)
    for vector in vectors:
        if layer not in vector.directions:
            raise InputError(f"vector {vector.name!r} has no direction at layer {layer}")
    rows = torch.stack([vector.directions[layer].double() for vector in vectors])
    units = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    cosines: torch.Tensor = units @ units.T
    return cosines


def norm_table(vectors: Sequence[SteeringVector]) -> dict[str, dict[int, tuple[float, float | None]]]:
    """By name and layer: (length of the direction, that over the median residual norm or None where it is unknown)."""
    table: dict[str, dict[int, tuple[float, float | None]]] = {}
    for vector in vectors:
        rows: dict[int, tuple[float, float | None]] = {}
        for layer in sorted(vector.directions):
            length, median = float(vector.directions[layer].norm()), vector.median_residual_norms.get(layer)
            rows[layer] = (length, length / median if median else None)
        table[vector.name] = rows
    return table


def _gram_schmidt(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """`parts`, each without what lies along those before it; the length of what is left is kept."""
    kept: list[torch.Tensor] = []
    out = []
    for part in parts:
        rest = part
        for _ in range(2):  # once more for what rounding left over
            for unit in kept:
                rest = rest - (rest @ unit) * unit
        if float(rest.norm()) > 1e-6 * float(part.norm()):
            kept.append(rest / rest.norm())
        else:
            rest = torch.zeros_like(part)  # nothing new in it
        out.append(rest)
    return out


def _medians(vectors: Sequence[SteeringVector], layers: Sequence[int]) -> dict[int, float]:
    """The mean of those that are known: each set of texts measured the same residual a little differently."""
    found: dict[int, float] = {}
    for layer in layers:
        known = [v.median_residual_norms[layer] for v in vectors if layer in v.median_residual_norms]
        if known:
            found[layer] = sum(known) / len(known)
    return found


def _common(values: Sequence[str], otherwise: str) -> str:
    return values[0] if len(set(values)) == 1 else otherwise


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
