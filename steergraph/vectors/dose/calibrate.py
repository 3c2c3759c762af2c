"""Searches for a dose: the alpha that spends a given KL, and the largest before the text falls apart.

Knows how to bisect, and what counts as falling apart. How a dose is measured is `dose`'s business. Both searches go
from the smallest dose up and stop at the first crossing: effects need not grow evenly beyond it.
"""

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.base.records import Frozen
from steergraph.engine.steering.records import Positions, Unit
from steergraph.vectors.dose.cells import Evidence
from steergraph.vectors.dose.measure import Doses, KlSpent, Spoken, Switch

LADDER = tuple(2.0**step for step in range(-8, 5, 2))
"""Relative doses that are tried first: from 0.4 % of the residual to 16 times it."""
INSIDE = 3
"""Doses tried at once inside a bracket, evenly on the scale of logarithms; each round makes it 4 times smaller
there."""


class Limits(Frozen):
    """When a text has fallen apart: one of these is passed, against the unsteered answers to the same prompts."""

    nll: float = Field(default=1.0, gt=0)
    """More nats a token under the unsteered model, in the median: perplexity times e."""
    repetition: float = Field(default=0.2, gt=0)
    """More repeated 4-grams, in the mean."""
    empty: float = Field(default=0.25, gt=0)
    """More prompts without an answer."""

    def passed(self, spoken: Spoken, plain: Spoken) -> str:
        """Which limit `spoken` passes, or ""."""
        for name in ("nll", "repetition", "empty"):
            if getattr(spoken, name) > getattr(plain, name) + getattr(self, name):
                return name
        return ""


class Calibration(Frozen):
    """What was searched, what was found, and every measurement on the way: evidence for a cell."""

    model: str
    revision: str
    vector: str
    vector_hash: str
    layer: int
    unit: Unit
    positions: Positions
    prompts: int
    kl_positions: int
    tokens: int
    target_nats: float | None = None
    chosen: KlSpent | None = None
    """The dose that spends `target_nats` in the 95th percentile; None where that was not asked."""
    limits: Limits | None = None
    plain: Spoken | None = None
    largest: Spoken | None = None
    """The largest dose that passes no limit; None where not asked, or where the smallest one does."""
    first_failing: Spoken | None = None
    failed: str = ""
    """The limit that `first_failing` passes; "" where the whole ladder passes none."""
    kl: tuple[KlSpent, ...] = ()
    spoken: tuple[Spoken, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    command: str = ""

    @property
    def evidence(self) -> Evidence:
        """For a cell at this dose. Not proven: it says how strong a dose is, not that it helps."""
        parts = []
        if self.chosen is not None:
            parts.append(f"spends {self.chosen.p95:.3g} nats (p95 KL over {self.kl_positions} tokens)")
        if self.largest is not None:
            parts.append(f"text holds up to alpha {self.largest.alpha:.4g}")
        return Evidence(
            metric="; ".join(parts) or "nothing found",
            n=self.prompts,
            source=f"steergraph vectors calibrate, {self.vector} ({self.vector_hash})",
            note="says how strong the dose is, not whether it helps",
        )


def calibrate(
    doses: Doses,
    switch: Switch,
    *,
    target: float | None = 1.0,
    limits: Limits | None = None,
    sign: int = 1,
    rounds: int = 4,
    command: str = "",
) -> Calibration:
    """Search for the alpha (of `sign`) that spends `target` nats, where one is given, and for the largest before
    degeneration, where `limits` are. `rounds` of section make a bracket's ends differ by 0.5 % (4: 4 ** (1 / 256)).

    Raises InputError where no dose of the ladder spends so much, or the vector does not fit.
    """
    if target is not None and not 0 < target < math.inf:
        raise InputError(f"a target of {target} nats: give a number above 0")
    per_alpha = doses.per_alpha(switch)
    ladder = [math.copysign(step / per_alpha, sign) for step in LADDER]
    info = doses.engine.info
    found: dict[str, Any] = {}
    if target is not None:
        found |= _spend(doses, switch, target, ladder, rounds)
    if limits is not None:
        found |= _hold(doses, switch, limits, ladder, max(rounds - 2, 1))
    return Calibration(
        model=info.name,
        revision=info.revision,
        vector=switch.vector.name,
        vector_hash=switch.vector.hash,
        layer=switch.layer,
        unit=switch.unit,
        positions=switch.positions,
        prompts=len(doses.messages),
        kl_positions=doses.positions,
        tokens=doses.tokens,
        versions={name: version(name) for name in ("torch", "transformers")},
        command=command,
        **found,
    )


def save_calibration(calibration: Calibration, path: str | Path) -> Path:
    """Write it as JSON, with its evidence, whole or not at all. Raises InputError."""
    import json

    content = {**calibration.model_dump(mode="json"), "evidence": calibration.evidence.model_dump(mode="json")}
    return write_whole(Path(path), json.dumps(content, indent=2) + "\n", parents=True)


def _spend(doses: Doses, switch: Switch, target: float, ladder: Sequence[float], rounds: int) -> dict[str, Any]:
    tried = {one.alpha: one for one in doses.kl(switch, ladder)}
    low, high = _crossing(ladder, [tried[alpha].p95 >= target for alpha in ladder])
    if high is None:
        most = max(one.p95 for one in tried.values())
        raise InputError(
            f"vector {switch.vector.name!r} at layer {switch.layer}: no dose up to {LADDER[-1]:g} times the residual "
            f"spends {target:g} nats (p95; at most {most:.3g}); ask for less"
        )
    for _ in range(rounds):
        inside = _between(low if low is not None else high / 64, high)
        tried |= {one.alpha: one for one in doses.kl(switch, inside)}
        nearer, further = _crossing(inside, [tried[alpha].p95 >= target for alpha in inside])
        low, high = nearer if nearer is not None else low, further if further is not None else high
    ends = [tried[alpha] for alpha in (low, high) if alpha is not None]
    best = min(ends, key=lambda one: abs(math.log(max(one.p95, 1e-12) / target)))
    every = sorted(tried.values(), key=lambda one: abs(one.alpha))
    return {"target_nats": target, "chosen": best, "kl": tuple(every)}


def _hold(doses: Doses, switch: Switch, limits: Limits, ladder: Sequence[float], rounds: int) -> dict[str, Any]:
    plain = doses.spoken(None, [0.0])[0]
    tried: dict[float, Spoken] = {}
    low: float | None = None
    high: float | None = None
    for alpha in ladder:  # one by one: beyond the first that fails nothing is to be learned, and it is the dearest
        tried[alpha] = doses.spoken(switch, [alpha])[0]
        if limits.passed(tried[alpha], plain):
            high = alpha
            break
        low = alpha
    for _ in range(rounds if low is not None and high is not None else 0):
        assert low is not None and high is not None
        inside = _between(low, high)
        tried |= {one.alpha: one for one in doses.spoken(switch, inside)}
        nearer, further = _crossing(inside, [bool(limits.passed(tried[alpha], plain)) for alpha in inside])
        low, high = nearer if nearer is not None else low, further if further is not None else high
    return {
        "limits": limits,
        "plain": plain,
        "largest": tried[low] if low is not None else None,
        "first_failing": tried[high] if high is not None else None,
        "failed": limits.passed(tried[high], plain) if high is not None else "",
        "spoken": tuple(sorted(tried.values(), key=lambda one: abs(one.alpha))),
    }


def _crossing(alphas: Sequence[float], over: Sequence[bool]) -> tuple[float | None, float | None]:
    """(the last before the first that is over, the first that is over), of doses in growing order."""
    at = next((index for index, is_over in enumerate(over) if is_over), len(alphas))
    return (alphas[at - 1] if at > 0 else None), (alphas[at] if at < len(alphas) else None)


def _between(low: float, high: float) -> list[float]:
    step = (high / low) ** (1 / (INSIDE + 1))
    return [low * step**k for k in range(1, INSIDE + 1)]
