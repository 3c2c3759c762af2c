"""Whether a vector is whole, fits a model, and does something there: an on/off check of the logits at every layer.

Knows one vector and one engine. A hook that is never reached changes nothing and says nothing; this is how it is found.
"""

from collections.abc import Sequence

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.protocol import Engine, Message, ScoreRequest
from steergraph.engine.steering.directions import check_fits
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.vector import SteeringVector, check_directions

ASKED = "What is the weather like in the mountains today?"
ANSWER = "It is cold and clear, with some wind from the north."
DOSE = 0.25
"""Of the median residual norm: well above rounding in half precision, well below what breaks a model."""


class LayerCheck(Frozen):
    """What switching the vector on did at one layer."""

    layer: int
    change: float
    """Largest change of a token's log-probability, in nats."""
    back: bool
    """Whether the next unsteered scores are the very ones from before."""

    @property
    def ok(self) -> bool:
        return self.change > 1e-6 and self.back


def verify(vector: SteeringVector, engine: Engine, layers: Sequence[int] | None = None) -> list[LayerCheck]:
    """Switch `vector` on and off at `layers` (all of its own by default). Raises InputError where it does not fit the
    model or its numbers are not usable."""
    check_directions(vector.name, vector.directions)
    chosen = sorted(vector.directions) if layers is None else list(layers)
    for layer in chosen:
        check_fits(vector, engine.info, layer=layer)
        if not bool(vector.directions[layer].any()):
            raise InputError(f"vector {vector.name!r}: its direction at layer {layer} is zero")
    if vector.name not in engine.library or engine.library[vector.name] != vector:
        raise InputError(f"vector {vector.name!r} is not in the engine's library")
    before = _scores(engine, None)
    checks = []
    for layer in chosen:
        part = Component(vector=vector.name, layer=layer, alpha=DOSE, unit="residual")
        steered = _scores(engine, Steering(components=(part,)))
        change = max(abs(on - off) for on, off in zip(steered, before, strict=True))
        checks.append(LayerCheck(layer=layer, change=change, back=_scores(engine, None) == before))
    return checks


def _scores(engine: Engine, steering: Steering | None) -> tuple[float, ...]:
    request = ScoreRequest(messages=(Message(role="user", content=ASKED),), continuation=ANSWER, steering=steering)
    return engine.score([request])[0].logprobs
