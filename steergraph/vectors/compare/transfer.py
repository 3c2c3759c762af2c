"""A vector of one model in another: learn the map, carry the vector over, and try it against native and random ones.

Knows two models, contrast sets and doses. Every direction is tried at the dose that spends the same KL, so that what is
compared is the direction and not its strength; what is asked is whether it makes the domain's held-out texts more
likely than the neutral ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.activations import READ_POSITIONS
from steergraph.engine.activations.sequences import Activations
from steergraph.engine.activations.texts import text_activations
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Message, ScoreRequest
from steergraph.engine.steering.records import Steering
from steergraph.vectors.compare.projection import LinearMap, MapMethod, fit_map, paired_layer, r_squared
from steergraph.vectors.dose.calibrate import calibrate
from steergraph.vectors.dose.measure import Doses, Switch
from steergraph.vectors.extract.contrast import ContrastSet, load_contrast, packaged_sets
from steergraph.vectors.vector import SteeringVector, make_vector

ASKED = "Write one message that somebody might send you."
"""The prompt under which texts are scored: it speaks of no domain."""
HELD_OUT_EVERY = 4


@dataclass(frozen=True)
class Texts:
    """What both models read, and which of it no map of a domain may be learned from."""

    texts: tuple[str, ...]
    domains: tuple[str, ...]
    """The domain of each text; "" for neutral ones."""

    def split(self, domain: str) -> tuple[list[int], list[int]]:
        """(rows to learn from, held-out rows): none of `domain`'s own texts is in either, so that what carries its
        vector over was learned from other topics."""
        free = [index for index, of in enumerate(self.domains) if of != domain]
        held = free[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        out = set(held)
        return [index for index in free if index not in out], held


class Trial(Frozen):
    """One direction at the dose that spends the same KL as the others."""

    name: str
    alpha: float
    p95: float
    selectivity: float
    """Nats a token by which the domain's held-out texts become more likely, beyond the neutral ones."""


def packaged_texts(languages: Sequence[str] = ("en",)) -> Texts:
    """The texts of every packaged set of these languages, the neutral ones once each."""
    found: dict[str, str] = {}
    for name in packaged_sets():
        contrast = load_contrast(name)
        if contrast.language in languages:
            found |= dict.fromkeys(contrast.neutrals, "") | dict.fromkeys(contrast.positives, contrast.domain)
    return Texts(tuple(found), tuple(found.values()))


def read_both(
    source: LoadedModel, target: LoadedModel, texts: Texts, read: str = "last_prompt_token", batch_size: int = 8
) -> tuple[Activations, Activations]:
    """The same texts at the same read position on both models. Raises InputError."""
    position = next((known for known in READ_POSITIONS if known == read), None)
    if position not in ("last_prompt_token", "prompt_mean"):
        raise InputError(f"a vector read at {read} can't be carried over: only prompts' positions are in both models")
    first, second = (
        text_activations(model, texts.texts, (position,), where=model.info.name, batch_size=batch_size)
        for model in (source, target)
    )
    return first, second


def learn_maps(
    activations: tuple[Activations, Activations],
    texts: Texts,
    domain: str,
    layers: Sequence[int],
    method: MapMethod = "ridge",
) -> tuple[dict[int, tuple[int, LinearMap]], dict[int, float]]:
    """({target layer: (source layer, map)}, {target layer: held-out R2}) for `layers` of the target."""
    first, second = (next(iter(one.at.values())) for one in activations)
    rows, held = texts.split(domain)
    maps: dict[int, tuple[int, LinearMap]] = {}
    scores: dict[int, float] = {}
    for layer in layers:
        source = paired_layer(layer, len(second), len(first))
        fitted = fit_map(first[source, rows], second[layer, rows], method)
        maps[layer] = (source, fitted)
        scores[layer] = r_squared(fitted, first[source, held], second[layer, held])
    return maps, scores


def random_vector(like: SteeringVector, layer: int, seed: int) -> SteeringVector:
    """A direction drawn evenly from the sphere, for the same model and layer: what any direction does."""
    drawn = torch.randn(like.hidden_size, generator=torch.Generator().manual_seed(seed))
    return make_vector(
        f"random {seed}",
        {layer: drawn},
        model=like.model,
        revision=like.revision,
        method="random",
        median_residual_norms={k: v for k, v in like.median_residual_norms.items() if k == layer},
    )


def compare_directions(
    doses: Doses, candidates: Mapping[str, SteeringVector], layer: int, contrast: ContrastSet, *, nats: float = 0.5
) -> list[Trial]:
    """Each candidate at `layer`, at the dose that spends `nats` (p95), judged on `contrast`'s held-out texts.

    Raises InputError where one can't spend so much.
    """
    held_high, held_low = contrast.held_out
    sides = [[contrast.positives[k] for k in held_high], [contrast.neutrals[k] for k in held_low]]
    plain = [_likely(doses, texts, None) for texts in sides]
    trials = []
    for name, vector in candidates.items():
        switch = Switch(vector, layer)
        chosen = calibrate(doses, switch, target=nats).chosen
        assert chosen is not None
        with doses.lending(vector):
            gains = [
                _likely(doses, texts, switch.steering(chosen.alpha)) - before
                for texts, before in zip(sides, plain, strict=True)
            ]
        trials.append(Trial(name=name, alpha=chosen.alpha, p95=chosen.p95, selectivity=gains[0] - gains[1]))
    return trials


def _likely(doses: Doses, texts: Sequence[str], steering: Steering | None) -> float:
    """Mean over texts of the log-likelihood a token."""
    messages = (Message(role="user", content=ASKED),)
    scores = doses.engine.score(
        [ScoreRequest(messages=messages, continuation=text, steering=steering) for text in texts]
    )
    return sum(one.total / len(one.logprobs) for one in scores) / len(scores)
