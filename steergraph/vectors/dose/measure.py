"""How strong a dose is: the KL it spends, and what it does to the text that is spoken under it.

Knows an engine, one vector at one layer, and prompts. Knows nothing of what dose is wanted: `calibrate` searches.

KL is KL(steered || unsteered) in nats, at each of the first tokens of the model's own unsteered greedy answer, both
sides forced along it: the same tokens for every dose, so that doses and vectors can be compared. log_softmax in
float32.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.loading.chat import Chat
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Request, Sampling, ScoreRequest
from steergraph.engine.scoring.score import ForcedSample, forced_logits
from steergraph.engine.steering.directions import check_fits
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan, plan_steering
from steergraph.engine.steering.records import Component, Positions, Steering, Unit
from steergraph.vectors.library import Library
from steergraph.vectors.vector import SteeringVector

NGRAM = 4


class KlSpent(Frozen):
    """KL over the positions of all prompts, in nats."""

    alpha: float
    relative_dose: float
    """Length of what is added over the median residual norm at the layer."""
    p95: float
    mean: float
    first_token: float
    """Mean over prompts at the first generated token alone."""


class Spoken(Frozen):
    """What was said under a dose, beside what is said without."""

    alpha: float
    relative_dose: float
    nll: float
    """Median over prompts of the nats a token of the steered text costs the unsteered model: log of its perplexity."""
    repetition: float
    """Mean over prompts of the share of 4-grams of tokens that occurred before in the same text."""
    empty: float
    """Share of prompts that got no answer at all."""


@dataclass(frozen=True)
class Switch:
    """What is dosed: one vector at one layer."""

    vector: SteeringVector
    layer: int
    unit: Unit = "unit_vector"
    positions: Positions = "all"

    def steering(self, alpha: float) -> Steering:
        return Steering(
            components=(
                Component(
                    vector=self.vector.name, layer=self.layer, alpha=alpha, unit=self.unit, positions=self.positions
                ),
            )
        )


class Doses:
    """Measures doses on one engine's model, at the unsteered answers to `prompts` (user messages, at least one)."""

    def __init__(self, engine: LocalEngine, prompts: Sequence[str], *, tokens: int = 32, batch_size: int = 16) -> None:
        """Speaks every prompt once, unsteered and greedily, up to `tokens`. Raises InputError where no prompt is
        answered or `tokens` is below 1."""
        if tokens < 1 or not prompts:
            raise InputError("a dose is measured on at least one prompt and one token")
        self.engine, self.batch_size, self.tokens = engine, batch_size, tokens
        self.messages = [(Message(role="user", content=prompt),) for prompt in prompts]
        said = engine.generate([self._request(messages, None) for messages in self.messages])
        chat = Chat(engine.loaded.tokenizer)
        self._prompts = [chat.prompt(messages) for messages in self.messages]
        self._texts = [completion.token_ids for completion in said]
        pairs = zip(self._prompts, self._texts, strict=True)
        rows = [ForcedSample(prompt, text, SteeringPlan()) for prompt, text in pairs if text]
        if not rows:
            raise InputError(f"{engine.info.name} answers none of the prompts unsteered: no dose can be measured on it")
        self._rows = rows
        self._plain = [logits.log_softmax(dim=-1).cpu() for logits in self._forced(rows)]

    @property
    def positions(self) -> int:
        """Token positions at which KL is taken."""
        return sum(len(row.continuation) for row in self._rows)

    def median_norm(self, switch: Switch) -> float:
        """The median residual norm at the layer: the vector's own, else what the engine takes in its place."""
        return switch.vector.median_residual_norms.get(switch.layer) or self.engine.median_norms[switch.layer]

    def per_alpha(self, switch: Switch) -> float:
        """Relative dose of alpha 1. Raises SteeringError where the vector does not fit the model."""
        check_fits(switch.vector, self.engine.info, layer=switch.layer)
        if switch.unit == "residual":
            return 1.0
        length = 1.0 if switch.unit == "unit_vector" else float(switch.vector.directions[switch.layer].norm())
        return length / self.median_norm(switch)

    def kl(self, switch: Switch, alphas: Sequence[float]) -> list[KlSpent]:
        """What each of `alphas` spends. Prompts and alphas share batches."""
        library = Library({switch.vector.name: switch.vector})
        info, per_alpha = self.engine.info, self.per_alpha(switch)
        rows, plain = [], []
        for alpha in alphas:
            plan = plan_steering(switch.steering(alpha), library, info, lambda _layer: self.median_norm(switch))
            rows += [ForcedSample(row.prompt, row.continuation, plan) for row in self._rows]
            plain += self._plain
        spent = []
        for row_logits, base in zip(self._forced(rows), plain, strict=True):
            steered = row_logits.cpu().log_softmax(dim=-1)
            spent.append((steered.exp() * (steered - base)).sum(dim=-1).clamp(min=0))
        results = []
        for index, alpha in enumerate(alphas):
            mine = spent[index * len(self._rows) : (index + 1) * len(self._rows)]
            every = torch.cat(mine)
            results.append(
                KlSpent(
                    alpha=alpha,
                    relative_dose=abs(alpha) * per_alpha,
                    p95=float(every.quantile(0.95)),
                    mean=float(every.mean()),
                    first_token=float(torch.stack([one[0] for one in mine]).mean()),
                )
            )
        return results

    def spoken(self, switch: Switch | None, alphas: Sequence[float]) -> list[Spoken]:
        """What is said under each of `alphas`; with no switch and (0,), what is said without."""
        steerings = [switch.steering(alpha) if switch else None for alpha in alphas]
        asked = [self._request(messages, steering) for steering in steerings for messages in self.messages]
        with self.lending(switch.vector if switch else None):
            said = [completion.token_ids for completion in self.engine.generate(asked)]
        prompts = self._prompts * len(alphas)
        scored = [(index, ids) for index, ids in enumerate(said) if ids]
        scores = self.engine.score(
            [ScoreRequest(token_ids=tuple(prompts[index]), continuation=ids) for index, ids in scored]
        )
        nll = {index: -one.total / len(one.logprobs) for (index, _), one in zip(scored, scores, strict=True)}
        per_alpha = self.per_alpha(switch) if switch else 0.0
        results = []
        for number, alpha in enumerate(alphas):
            mine = range(number * len(self.messages), (number + 1) * len(self.messages))
            costs = [nll[index] for index in mine if index in nll]
            results.append(
                Spoken(
                    alpha=alpha,
                    relative_dose=abs(alpha) * per_alpha,
                    nll=float(torch.tensor(costs).quantile(0.5)) if costs else 0.0,
                    repetition=sum(repetition(said[index]) for index in mine) / len(mine),
                    empty=sum(not said[index] for index in mine) / len(mine),
                )
            )
        return results

    @contextmanager
    def lending(self, vector: SteeringVector | None) -> Iterator[None]:
        """While open, the engine's library has `vector` under its name; afterwards it is as it was."""
        before = self.engine.library
        if vector is not None:
            self.engine.library = {**before, vector.name: vector}
        try:
            yield
        finally:
            self.engine.library = before

    def _request(self, messages: tuple[Message, ...], steering: Steering | None) -> Request:
        return Request(messages=messages, steering=steering, sampling=Sampling(max_new_tokens=self.tokens))

    def _forced(self, rows: Sequence[ForcedSample]) -> Iterator[torch.Tensor]:
        """Logits row by row: those of one batch are alive at a time."""
        loaded = self.engine.loaded
        hooks = SteeringHooks(loaded.model)
        try:
            for start in range(0, len(rows), self.batch_size):
                yield from forced_logits(loaded, hooks, rows[start : start + self.batch_size])
        finally:
            hooks.remove()


def repetition(tokens: Sequence[int], n: int = NGRAM) -> float:
    """The share of n-grams that occurred before; 0 for a text of fewer than n + 1 tokens."""
    grams = [tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


def perplexity(nll: float) -> float:
    return math.exp(min(nll, 700.0))
