"""The weights of the signals: fitted to instances, and judged on the repositories that they were not fitted to.

Knows the numbers in a bench's records. The fit is listwise: the gold files should get the probability under a softmax
of the weighted sums over the files of their own commit (Cao et al. 2007, ListNet), with a penalty on large weights.
Signals that speak for a file get weights of zero or more, `auxiliary` of zero or less.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steergraph.retrieval.signals import SIGNALS

PENALTY = 3.0
"""On half the sum of squares, against the sum of the instances' losses."""
Record = Mapping[str, Any]


def fit(records: Sequence[Record], without: Sequence[str] = (), penalty: float = PENALTY) -> dict[str, float]:
    """Weights of SIGNALS fitted to `records`; those of `without` stay 0."""
    from scipy.optimize import minimize

    data = [found for record in records if (found := _table(record)) is not None]
    bounds = [(0.0, 0.0) if s in without else (None, 0.0) if s == "auxiliary" else (0.0, None) for s in SIGNALS]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total, slope = penalty * float(weights @ weights) / 2, penalty * weights
        for table, gold in data:
            worth = table @ weights
            chances = np.exp(worth - worth.max())
            chances /= chances.sum()
            total -= float(gold @ np.log(chances + 1e-12))
            slope = slope + table.T @ (chances - gold)
        return total, slope

    found = minimize(loss, np.zeros(len(SIGNALS)), jac=True, method="L-BFGS-B", bounds=bounds)
    return dict(zip(SIGNALS, found.x.tolist(), strict=True))


def ranked(record: Record, weights: Mapping[str, float], size: int = 20) -> list[str]:
    """The best files of an instance under `weights`, of those whose signals were kept."""
    paths = sorted(record["signals"])
    table = np.array([record["signals"][path] for path in paths]).reshape(len(paths), len(SIGNALS))
    worth = table @ np.array([weights[name] for name in SIGNALS])
    return [paths[at] for at in np.argsort(-worth, kind="stable")[:size]]


def held_out(records: Sequence[Record], without: Sequence[str] = ()) -> dict[str, list[str]]:
    """Each instance's ranking under weights that were fitted to the other repositories. {} for one repository."""
    repositories = sorted({record["repo"] for record in records})
    if len(repositories) < 2:
        return {}
    found: dict[str, list[str]] = {}
    for repository in repositories:
        weights = fit([record for record in records if record["repo"] != repository], without)
        found |= {r["instance_id"]: ranked(r, weights) for r in records if r["repo"] == repository}
    return found


def _table(record: Record) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    paths = sorted(record["signals"])
    gold = np.array([path in record["gold"] for path in paths], np.float64)
    if not gold.any():
        return None
    return np.array([record["signals"][path] for path in paths]), gold / gold.sum()
