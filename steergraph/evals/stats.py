"""The statistics of paired comparisons: did one arm do better than another on the same items?

Knows numbers. Knows nothing of models, arms or where the numbers are from. Nothing here is called an improvement
unless `Comparison.verdict` says so: the interval of the paired difference excludes zero, and after Holm's correction
over all the comparisons of the table the p-value is below the level.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from steergraph.base.errors import InputError

Verdict = Literal["better", "worse", "not shown"]


class Interval(BaseModel):
    """An estimate with its interval at the level that was asked for."""

    model_config = ConfigDict(frozen=True)

    estimate: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """`f"{interval:.1%}"` gives "64.0% (54.2% to 72.7%)"."""
        return f"{self.estimate:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


class Comparison(BaseModel):
    """One arm against another on the same items."""

    model_config = ConfigDict(frozen=True)

    n: int
    """Items that both arms have."""
    first: float
    """Mean of the arm in question."""
    second: float
    """Mean of the arm that it is held against."""
    difference: Interval
    """Paired: mean of `first` minus `second`, with its bootstrap interval."""
    wins: int
    losses: int
    p: float
    """Two-sided: exact McNemar where every value is 0 or 1, else the sign-flip permutation test."""
    p_corrected: float | None = None
    """After Holm, where this is one of several; see `corrected`."""
    level: float = 0.95

    @property
    def verdict(self) -> Verdict:
        p = self.p if self.p_corrected is None else self.p_corrected
        if p >= 1 - self.level or self.difference.low <= 0 <= self.difference.high:
            return "not shown"
        return "better" if self.difference.estimate > 0 else "worse"


def wilson(hits: int, n: int, level: float = 0.95) -> Interval:
    """A share with its Wilson score interval (Wilson 1927). An n of 0 tells nothing: nan (0 to 1)."""
    if not 0 <= hits <= n:
        raise InputError(f"a share of {hits} in {n} is none")
    if n == 0:
        return Interval(estimate=float("nan"), low=0.0, high=1.0)
    from scipy.stats import binomtest

    found = binomtest(hits, n).proportion_ci(level, method="wilson")
    return Interval(estimate=hits / n, low=float(found.low), high=float(found.high))


def mcnemar_exact(wins: int, losses: int) -> float:
    """The two-sided exact p-value of McNemar's test, from the items on which two arms differ; 1 where there is none."""
    if wins < 0 or losses < 0:
        raise InputError("wins and losses are counts")
    if wins + losses == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue)


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of `first` minus `second` (both (n,), item by item) with its percentile bootstrap interval.

    Items are resampled, both arms together (Efron and Tibshirani 1993). Raises InputError where the arms are not of
    one length, empty, or not finite.
    """
    return mean_interval(_difference(first, second), level=level, resamples=resamples, seed=seed)


def mean_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean of `values` (n,) with its percentile bootstrap interval over items."""
    items = _finite(values)
    rng = np.random.default_rng(seed)
    at_once = max(1, 5_000_000 // len(items))  # bounds the memory of one draw
    means = np.concatenate(
        [
            items[rng.integers(0, len(items), size=(min(at_once, resamples - start), len(items)))].mean(axis=1)
            for start in range(0, resamples, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=float(items.mean()), low=float(low), high=float(high))


def sign_flip(first: ArrayLike, second: ArrayLike, *, flips: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of the paired permutation test on the mean difference.

    Under the null either arm could have had either value. Exact over all 2^n sign patterns up to n = 13 differing
    items, else estimated from `flips` random ones, counted with the observed pattern (Phipson and Smyth 2010), so it
    is never 0.
    """
    moved = _difference(first, second)
    moved = moved[moved != 0]
    if len(moved) == 0:
        return 1.0
    seen = abs(moved.sum()) * (1 - 1e-12)  # equal sums in another order of addition are equal
    if len(moved) <= 13:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float((abs((1.0 - 2.0 * patterns) @ moved) >= seen).mean())
    rng = np.random.default_rng(seed)
    at_once = max(1, 5_000_000 // len(moved))
    hits = sum(
        int((abs(rng.choice([-1.0, 1.0], size=(min(at_once, flips - start), len(moved))) @ moved) >= seen).sum())
        for start in range(0, flips, at_once)
    )
    return (hits + 1) / (flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979), in the order given: controls the chance of any false claim."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = [1.0] * len(p_values)
    least = 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = least
    return corrected


def compare(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Comparison:
    """`first` against `second`, item by item. Raises InputError as `paired_bootstrap` does."""
    moved = _difference(first, second)
    one, other = _finite(first), _finite(second)
    wins, losses = int((moved > 0).sum()), int((moved < 0).sum())
    binary = bool(np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all())
    return Comparison(
        n=len(moved),
        first=float(one.mean()),
        second=float(other.mean()),
        difference=mean_interval(moved, level=level, seed=seed),
        wins=wins,
        losses=losses,
        p=mcnemar_exact(wins, losses) if binary else sign_flip(one, other, seed=seed),
        level=level,
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of one table with Holm's correction over all of them."""
    return [
        comparison.model_copy(update={"p_corrected": p})
        for comparison, p in zip(comparisons, holm([c.p for c in comparisons]), strict=True)
    ]


def _difference(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    one, other = _finite(first), _finite(second)
    if one.shape != other.shape:
        raise InputError(f"a paired comparison needs the same items in both arms, not {len(one)} and {len(other)}")
    moved: np.ndarray = one - other
    return moved


def _finite(values: ArrayLike) -> np.ndarray:
    items = np.asarray(values, dtype=np.float64)
    if items.ndim != 1 or len(items) == 0:
        raise InputError("a comparison needs one number an item, and an item at least")
    if not np.isfinite(items).all():
        raise InputError("a comparison needs finite numbers: an item without a result belongs in no arm, or in both")
    return items
