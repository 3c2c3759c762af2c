"""Linear maps from one model's residuals to another's, learned from both models' activations on the same texts.

Knows numbers: [texts, width] on both sides, float64 inside, and how a vector goes through a map. Knows nothing of
models. A map says how one model's state foretells the other's; whether a mapped direction steers is measured in
`transfer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from steergraph.base.errors import InputError
from steergraph.engine.protocol import ModelInfo
from steergraph.vectors.vector import SteeringVector, make_vector

MapMethod = Literal["ridge", "procrustes", "low_rank"]
MAP_METHODS: tuple[MapMethod, ...] = get_args(MapMethod)
PENALTIES = tuple(10.0**power for power in range(-4, 4))
"""Of the ridge, in mean eigenvalues of the source's covariance. The one with the least error on left-out texts is
taken."""
RANK = 16
MIN_TEXTS = 16


@dataclass(frozen=True)
class LinearMap:
    """target = (source - source_mean) weight' + target_mean."""

    weight: torch.Tensor
    """[target width, source width]"""
    source_mean: torch.Tensor
    target_mean: torch.Tensor
    method: MapMethod
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen: penalty, rank, scale; how many texts it is learned from."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """States [..., source width] as the target's."""
        mapped: torch.Tensor = (states.double() - self.source_mean) @ self.weight.T + self.target_mean
        return mapped

    def direction(self, direction: torch.Tensor) -> torch.Tensor:
        """A direction has no place, so the means do not count."""
        return self.weight @ direction.double()


def fit_map(source: torch.Tensor, target: torch.Tensor, method: MapMethod = "ridge", *, rank: int = RANK) -> LinearMap:
    """The map from `source` [n, a] to `target` [n, b], row by row of the same texts.

    `ridge`: least squares with a ridge penalty, chosen by the exact leave-one-out error (PRESS). `low_rank`: the same,
    then only the `rank` directions in which its predictions vary most (Izenman 1975, reduced-rank regression).
    `procrustes`: the rotation and one scale that bring the centred states nearest (Schoenemann 1966); where the widths
    differ, of the narrower one's space into the wider's.

    Raises InputError for fewer than 16 texts, sides of different length, or a source that does not vary.
    """
    if len(source) != len(target) or len(source) < MIN_TEXTS:
        raise InputError(f"a map is learned from at least {MIN_TEXTS} texts that both models read, not {len(source)}")
    x, y = source.double(), target.double()
    means = (x.mean(dim=0), y.mean(dim=0))
    x, y = x - means[0], y - means[1]
    if not bool(x.abs().max() > 0):
        raise InputError("the first model's residuals are the same for every text: nothing can be learned from them")
    settings: dict[str, Any] = {"texts": len(x)}
    if method == "procrustes":
        left, values, right = torch.linalg.svd(y.T @ x, full_matrices=False)
        scale = float(values.sum() / (x**2).sum())
        weight = scale * (left @ right)
        settings["scale"] = round(scale, 6)
    else:
        penalty = _penalty(x, y)
        weight = _ridge(x, y, penalty)
        settings["penalty"] = penalty
        if method == "low_rank":
            rank = max(1, min(rank, *y.shape, x.shape[1]))
            _, _, right = torch.linalg.svd(x @ weight.T, full_matrices=False)
            weight = right[:rank].T @ (right[:rank] @ weight)
            settings["rank"] = rank
    return LinearMap(weight, *means, method=method, settings=settings)


def r_squared(mapped: LinearMap, source: torch.Tensor, target: torch.Tensor) -> float:
    """1 - squared error / squared distance from the training mean, over all entries. Below 0 is worse than the mean."""
    wanted = target.double()
    error = ((mapped(source) - wanted) ** 2).sum()
    spread = ((wanted - mapped.target_mean) ** 2).sum()
    return float(1 - error / spread) if bool(spread > 0) else 0.0


def paired_layer(layer: int, layers: int, other_layers: int) -> int:
    """The block of a model of `other_layers` blocks as deep as block `layer` of one of `layers`, in the middle of
    each."""
    return min(other_layers - 1, int((layer + 0.5) / layers * other_layers))


def project_vector(
    vector: SteeringVector,
    maps: Mapping[int, tuple[int, LinearMap]],
    info: ModelInfo,
    *,
    name: str | None = None,
    median_residual_norms: Mapping[int, float] | None = None,
    held_out_r2: Mapping[int, float] | None = None,
) -> SteeringVector:
    """`vector` in the model `info`: at each layer of `maps` the direction at its source layer, through its map.

    Raises InputError where the vector has none of the source layers, or its width is not the maps'.
    """
    directions = {}
    for layer, (source, mapped) in maps.items():
        if mapped.weight.shape[1] != vector.hidden_size:
            raise InputError(
                f"vector {vector.name!r} is {vector.hidden_size} wide, the map takes {mapped.weight.shape[1]}"
            )
        if source in vector.directions:
            found = mapped.direction(vector.directions[source]).float()
            if bool(found.norm() > 0):
                directions[layer] = found
    if not directions:
        raise InputError(f"vector {vector.name!r} has a direction at none of the mapped layers")
    one = next(iter(maps.values()))[1]
    medians = median_residual_norms or {}
    return make_vector(
        name or vector.name,
        directions,
        model=info.name,
        revision=info.revision,
        method=f"projected_{one.method}",
        contrast_hash=vector.contrast_hash,
        read_position=vector.read_position,
        median_residual_norms={layer: medians[layer] for layer in directions if layer in medians},
        settings={
            "source_model": vector.model,
            "source_revision": vector.revision,
            "source_layers": {str(layer): maps[layer][0] for layer in directions},
            "maps": {str(layer): dict(maps[layer][1].settings) for layer in directions},
        },
        parents=(vector.hash,),
        metadata={
            "n_layers": info.n_layers,
            "architecture": info.architecture,
            "held_out_r2": {str(k): round(v, 4) for k, v in (held_out_r2 or {}).items() if k in directions},
        },
    )


def _ridge(x: torch.Tensor, y: torch.Tensor, penalty: float) -> torch.Tensor:
    """[b, a], solved in the smaller of the spaces of texts and of dimensions."""
    count, width = x.shape
    amount = penalty * float((x**2).sum()) / width
    solved: torch.Tensor
    if count <= width:
        solved = (x.T @ torch.linalg.solve(x @ x.T + amount * torch.eye(count, dtype=x.dtype), y)).T
    else:
        solved = torch.linalg.solve(x.T @ x + amount * torch.eye(width, dtype=x.dtype), x.T @ y).T
    return solved


def _penalty(x: torch.Tensor, y: torch.Tensor) -> float:
    """The penalty of least leave-one-out error: the residual of each text over 1 - its leverage (with the mean's
    1/n)."""
    count, width = x.shape
    left, values, _ = torch.linalg.svd(x, full_matrices=False)
    inside = left.T @ y
    errors = []
    for penalty in PENALTIES:
        shares = values**2 / (values**2 + penalty * float((x**2).sum()) / width)
        residual = y - left @ (shares[:, None] * inside)
        leverage = (left**2 @ shares + 1 / count).clamp(max=1 - 1e-9)
        errors.append(float(((residual / (1 - leverage)[:, None]) ** 2).sum()))
    return PENALTIES[errors.index(min(errors))]
