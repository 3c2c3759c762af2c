"""Do two models arrange the same domains alike? Cosines among each model's vectors, compared against a permutation
null.

Knows numbers. Knows nothing of models. Spearman and Pearson over the pairs of domains, and classical scaling of both to
two dimensions with Procrustes; each against what comes out when one model's domains are given each other's names
(Mantel 1967). Without that null a high correlation says little, and all vectors sharing one neutral mean raises it:
they all have that mean in common. `centred` takes the mean of all vectors out of each first.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

import torch

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen

MIN_DOMAINS = 4
PERMUTATIONS = 2000


class Measure(Frozen):
    """One measure of likeness and what chance gives."""

    value: float
    null_mean: float
    null_extreme: float
    """What one permutation in twenty reaches."""
    p: float
    """Share of the permutations at least as alike, the true order counted in."""


class Likeness(Frozen):
    """How alike two models arrange the same domains."""

    domains: tuple[str, ...]
    centred: bool
    permutations: int
    spearman: Measure
    pearson: Measure
    procrustes: Measure
    """Disparity, from 0 (the same arrangement but for turning and scaling) to 1: smaller is more alike."""


def cosines(directions: Sequence[torch.Tensor], *, centred: bool = False) -> torch.Tensor:
    """[n, n], float64: cosines among n directions of one model."""
    rows = torch.stack([direction.double() for direction in directions])
    if centred:
        rows = rows - rows.mean(dim=0)
    units = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    table: torch.Tensor = units @ units.T
    return table


def compare(
    first: Mapping[str, torch.Tensor],
    second: Mapping[str, torch.Tensor],
    *,
    centred: bool = False,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Likeness:
    """Compare the arrangement of the domains that both have; directions of the two may be of different widths.

    All orders are tried where there are no more than `permutations`. Raises InputError for fewer than 4 domains.
    """
    names = sorted(set(first) & set(second))
    tables = [cosines([side[name] for name in names], centred=centred) for side in (first, second) if names]
    return compare_tables(
        names, *(tables or [torch.zeros(0, 0)] * 2), centred=centred, permutations=permutations, seed=seed
    )


def compare_tables(
    names: Sequence[str],
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    centred: bool = False,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Likeness:
    """The same for two tables of cosines [n, n]."""
    if len(names) < MIN_DOMAINS:
        raise InputError(
            f"{len(names)} domains in common: their arrangement says nothing, at least {MIN_DOMAINS} are needed"
        )
    orders = list(_orders(len(names), permutations, seed))
    left, right = _upper(first), [_upper(second[order][:, order]) for order in orders]
    here, there = scaling(first), scaling(second)
    return Likeness(
        domains=tuple(names),
        centred=centred,
        permutations=len(orders),
        spearman=_measure([_correlation(_ranks(left), _ranks(one)) for one in right], larger=True),
        pearson=_measure([_correlation(left, one) for one in right], larger=True),
        procrustes=_measure([disparity(here, there[order]) for order in orders], larger=False),
    )


def scaling(table: torch.Tensor, dimensions: int = 2) -> torch.Tensor:
    """[n, dimensions]: classical scaling (Torgerson 1952) of the distances sqrt(2 - 2 cosine)."""
    squared = (2 - 2 * table).clamp(min=0)
    centre = torch.eye(len(table), dtype=torch.float64) - 1 / len(table)
    values, vectors = torch.linalg.eigh(-0.5 * centre @ squared @ centre)
    keep = values.argsort(descending=True)[:dimensions]
    placed: torch.Tensor = vectors[:, keep] * values[keep].clamp(min=0).sqrt()
    return placed


def disparity(first: torch.Tensor, second: torch.Tensor) -> float:
    """What is left of the squared distance after the best turning, mirroring and scaling, both at size 1 (as scipy's
    procrustes): 1 - (sum of singular values)^2."""
    sides = [side - side.mean(dim=0) for side in (first.double(), second.double())]
    sizes = [side.norm() for side in sides]
    if not all(bool(size > 0) for size in sizes):
        return 1.0
    values = torch.linalg.svdvals((sides[0] / sizes[0]).T @ (sides[1] / sizes[1]))
    return float(1 - values.sum() ** 2)


def _measure(values: Sequence[float], *, larger: bool) -> Measure:
    """`values[0]` is of the true order."""
    sign = 1.0 if larger else -1.0
    null = sorted((sign * value for value in values), reverse=True)
    reached = sum(one >= sign * values[0] - 1e-12 for one in null)
    extreme = null[max(0, math.ceil(len(null) / 20) - 1)]
    return Measure(
        value=values[0],
        null_mean=sum(values) / len(values),
        null_extreme=sign * extreme,
        p=reached / len(values),
    )


def _orders(count: int, most: int, seed: int) -> Iterator[list[int]]:
    """The true order first, then others: all of them, or a random sample."""
    if math.factorial(count) <= most:
        for every in itertools.permutations(range(count)):
            yield list(every)
        return
    drawn = random.Random(seed)
    order = list(range(count))
    yield list(order)
    for _ in range(most - 1):
        drawn.shuffle(order)
        yield list(order)


def _upper(table: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.triu_indices(len(table), len(table), offset=1)
    return table[rows, columns]


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks, those of ties averaged."""
    found, place = torch.unique(values, return_inverse=True)
    counts = torch.bincount(place, minlength=len(found)).double()
    last: torch.Tensor = counts.cumsum(0)
    return (last - (counts - 1) / 2)[place]


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    a, b = first - first.mean(), second - second.mean()
    size = a.norm() * b.norm()
    return float(a @ b / size) if bool(size > 0) else 0.0
