"""Directions from two sides of activations at one layer: mean difference, paired PCA, whitened difference, logistic
probe.

Knows numbers only: [texts, hidden] on each side, float64 inside. Knows nothing of models, texts or files. Every
direction has the length of the two means' distance along it, so that alpha 1 in unit `raw` carries the neutral mean to
the positive one as far as the direction reaches, whatever the method.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch

Method = Literal["mean_difference", "paired_pca", "whitened", "logistic"]
METHODS: tuple[Method, ...] = get_args(Method)
PENALTY = 1.0
"""Ridge penalty of the logistic probe, on activations scaled to a median length of 1."""
NEWTON_STEPS = 50


def direction(method: Method, positive: torch.Tensor, neutral: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    """(direction [hidden], float64; what the method chose on the way) of `positive` [n, hidden] against `neutral`.

    A zero direction where the method finds none. Scaled as the module says.
    """
    high, low = positive.double(), neutral.double()
    found, chosen = _METHODS[method](high, low)
    length = found.norm()
    if method == "mean_difference" or not bool(length > 0):
        return found, dict(chosen)
    unit = found / length
    return unit * ((high.mean(dim=0) - low.mean(dim=0)) @ unit).abs(), dict(chosen)


def mean_difference(positive: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
    """Mean of the positives minus mean of the neutrals. float64: they are nearly equal where the residual has a few
    huge entries."""
    return positive.double().mean(dim=0) - neutral.double().mean(dim=0)


def paired_pca(positive: torch.Tensor, neutral: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """(unit direction, share of the pairs it agrees with, share of their squared length it explains).

    The first right singular vector of the differences of pairs: text k of one side with text k of the other, surplus
    texts left out. Not centred: centring would take away the mean difference, which is what is looked for (it is as if
    every pair stood there in both orders, as in Zou et al. 2023, "Representation engineering", appendix C.1). A
    singular vector has no sign; it gets that of the majority of pairs, on a tie that of their mean.
    """
    pairs = min(len(positive), len(neutral))
    differences = positive[:pairs].double() - neutral[:pairs].double()
    _, values, rows = torch.linalg.svd(differences, full_matrices=False)
    unit = rows[0]
    along = differences @ unit
    votes = int((along > 0).sum()) - int((along < 0).sum())
    if votes < 0 or (votes == 0 and float(along.sum()) < 0):
        unit, along = -unit, -along
    explained = float(values[0] ** 2 / (values**2).sum().clamp(min=1e-300))
    return unit, float((along > 0).double().mean()), explained


def whitened_difference(positive: torch.Tensor, neutral: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(inverse of the shrunk covariance within the sides, times the mean difference; the shrinkage).

    Fisher's linear discriminant. The covariance is (1 - s) S + s m I, m the mean eigenvalue of S, with the s of Ledoit
    and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices", equations 7 to 10. Solved
    in the space of the texts (Woodbury's identity), which are far fewer than the dimensions.
    """
    high, low = positive.double(), neutral.double()
    difference = high.mean(dim=0) - low.mean(dim=0)
    centred = torch.cat([high - high.mean(dim=0), low - low.mean(dim=0)])
    count, width = centred.shape
    gram = centred @ centred.T
    mean_variance = float(gram.trace()) / count / width
    if not mean_variance > 0:
        return difference, 1.0
    shrinkage = _ledoit_wolf(gram, width)
    ridge = shrinkage * mean_variance
    share = (1 - shrinkage) / count
    if ridge <= 1e-12 * mean_variance:  # plenty of texts: S alone is the better-conditioned way to say it
        covariance = share * centred.T @ centred + 1e-9 * mean_variance * torch.eye(width, dtype=torch.float64)
        return torch.linalg.solve(covariance, difference), shrinkage
    if share <= 0:
        return difference / ridge, shrinkage
    inner = torch.eye(count, dtype=torch.float64) * (ridge / share) + gram
    return (difference - centred.T @ torch.linalg.solve(inner, centred @ difference)) / ridge, shrinkage


def _ledoit_wolf(gram: torch.Tensor, width: int) -> float:
    """The shrinkage from the Gram matrix [n, n] of centred rows: |S|^2 = |G|^2 / n^2 and |x x'|^2 = G_kk^2."""
    count = len(gram)
    squared = float((gram**2).sum()) / count**2
    mean = float(gram.trace()) / count / width
    spread = squared / width - mean**2
    if spread <= 0:
        return 1.0
    noise = (float((gram.diagonal() ** 2).sum()) - count * squared) / count**2 / width
    return max(0.0, min(noise, spread)) / spread


def logistic_probe(positive: torch.Tensor, neutral: torch.Tensor, penalty: float = PENALTY) -> torch.Tensor:
    """The weights of a logistic regression with an intercept and a ridge penalty, both sides weighing the same.

    Newton's method with halved steps, in the space that the texts span: the solution has no other component.
    Activations are centred and divided by their median length first, so that one penalty suits every layer and model.
    """
    texts = torch.cat([positive.double(), neutral.double()])
    centred = texts - texts.mean(dim=0)
    scale = centred.norm(dim=1).median()
    if not bool(scale > 0):
        return torch.zeros(texts.shape[1], dtype=torch.float64)
    left, values, rows = torch.linalg.svd(centred / scale, full_matrices=False)
    features = torch.cat([left * values, torch.ones(len(texts), 1, dtype=torch.float64)], dim=1)
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(neutral))]).double()
    weights = torch.where(labels > 0, 0.5 * len(texts) / len(positive), 0.5 * len(texts) / len(neutral))
    ridge = torch.full((features.shape[1],), penalty, dtype=torch.float64)
    ridge[-1] = 0.0  # the intercept is free
    found: torch.Tensor = rows.T @ _newton(features, labels, weights, ridge)[:-1] / scale
    return found


def _newton(features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    def loss(at: torch.Tensor) -> float:
        scores = features @ at
        entropy = torch.nn.functional.softplus(scores) - labels * scores
        return float((weights * entropy).sum() + 0.5 * (ridge * at**2).sum())

    found = torch.zeros(features.shape[1], dtype=torch.float64)
    best = loss(found)
    for _ in range(NEWTON_STEPS):
        likely = torch.sigmoid(features @ found)
        slope = features.T @ (weights * (likely - labels)) + ridge * found
        curvature = (features * (weights * likely * (1 - likely))[:, None]).T @ features + torch.diag(ridge + 1e-9)
        step = torch.linalg.solve(curvature, slope)
        size = 1.0
        while (new := loss(found - size * step)) > best and size > 1e-6:
            size /= 2
        if new >= best - 1e-12 * abs(best):
            break
        found, best = found - size * step, new
    return found


def auroc(positive: torch.Tensor, neutral: torch.Tensor, direction: torch.Tensor) -> float:
    """How often a positive ([n, hidden]) lies further along `direction` than a neutral ([m, hidden]), over all n*m
    pairs; ties count half. 0.5 is chance, 1 a clean separation."""
    unit = direction.double() / direction.double().norm()
    return auroc_of(positive.double() @ unit, neutral.double() @ unit)


def auroc_of(high: torch.Tensor, low: torch.Tensor) -> float:
    """The same for scores [n] and [m], by ranks, so that thousands of each are no matter."""
    both = torch.cat([high, low]).double()
    values, place = torch.unique(both, return_inverse=True)
    counts = torch.zeros(len(values), dtype=torch.float64).index_add_(0, place, torch.ones_like(both))
    below = counts.cumsum(0) - counts
    ranks = (below + (counts + 1) / 2)[place[: len(high)]]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def _mean(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, Any]]:
    return mean_difference(high, low), {}


def _pca(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, Any]]:
    unit, agree, explained = paired_pca(high, low)
    return unit, {"pairs_agree": round(agree, 4), "explained": round(explained, 4)}


def _lda(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, Any]]:
    found, shrinkage = whitened_difference(high, low)
    return found, {"shrinkage": round(shrinkage, 4)}


def _probe(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, Any]]:
    return logistic_probe(high, low), {}


_METHODS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, Mapping[str, Any]]]] = {
    "mean_difference": _mean,
    "paired_pca": _pca,
    "whitened": _lda,
    "logistic": _probe,
}
