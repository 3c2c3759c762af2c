"""Where the candidates of a best-of-n come from: other seeds, other doses, other vectors.

Knows numbers and names of domains. Steering is a source of diversity of its own: a candidate by dose or by vector
speaks greedily, so that what it adds comes from the steering alone.
"""

from collections.abc import Sequence
from typing import Literal

from steergraph.agents.policy import Axis
from steergraph.base.records import Frozen

Kind = Literal["greedy", "seed", "dose", "vector"]

DOSES = (0.5, 2.0, 1.5, 0.75, 3.0, 0.25)
"""Factors on every specialist's alpha, in the order they are tried."""
_SEED_STEP = 1000
"""Between the seeds of two samples: repair rounds count up from a sample's own."""


class Source(Frozen):
    """How one sample differs from the preset as it is."""

    kind: Kind
    seed: int
    temperature: float = 0.0
    dose: float = 1.0
    vector: str | None = None
    """The domain whose vector every specialist speaks with; None: each with its own."""


def plan_sources(
    samples: int, axis: Axis, domains: Sequence[str], seed: int = 0, temperature: float = 0.7
) -> tuple[Source, ...]:
    """`samples` sources. The first is the preset as it is; then seed, dose and vector take turns.

    Without steering (`axis` none) there are seeds only. Once every dose, or every domain, was used, they come again
    with sampling. The first n of more samples are the same n.
    """
    kinds: tuple[Kind, ...] = ("seed",) if axis == "none" else ("seed", "dose", *(("vector",) if domains else ()))
    found = [Source(kind="greedy", seed=seed)]
    for number in range(1, samples):
        kind = kinds[(number - 1) % len(kinds)]
        turn = (number - 1) // len(kinds)
        of = {"seed": 0, "dose": len(DOSES), "vector": len(domains)}[kind]
        again = not of or turn >= of
        found.append(
            Source(
                kind=kind,
                seed=seed + _SEED_STEP * number if again else seed,
                temperature=temperature if again else 0.0,
                dose=DOSES[turn % of] if kind == "dose" else 1.0,
                vector=domains[turn % of] if kind == "vector" else None,
            )
        )
    return tuple(found[:samples])
