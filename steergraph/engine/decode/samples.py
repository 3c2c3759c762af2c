"""One generation in flight: its tokens so far, its limits, its text, and what happened to it.

Knows sampling, text and ends. Knows nothing of batches, caches or forwards.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from steergraph.engine.cache.prefix_cache import prefix_of
from steergraph.engine.constrain.constraint import Constraint
from steergraph.engine.decode.sampling import Penalties, draw, generator_of
from steergraph.engine.decode.text import AnswerText, SpanWatch
from steergraph.engine.protocol import FinishReason, Sampling
from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.receipts import Trail


@dataclass(eq=False)
class Sample:
    """What is below `done` belongs to the loop. A sample can be taken out of its batch and put into another at any
    time: all that it is stands here, and its cache can be computed again from its tokens."""

    prompt: Sequence[int]
    plan: SteeringPlan
    sampling: Sampling
    seed: int
    answer: AnswerText
    spans: SpanWatch
    room: int
    """Tokens that may still be produced: `max_new_tokens`, or what the window leaves."""
    deadline: float | None
    """On the clock of `time.monotonic`."""
    cancelled: Callable[[], bool]
    done: Callable[["Sample"], None]
    """Called once, when the sample has ended, with `finish` or `error` set."""
    constraint: Constraint | None = None
    token_ids: list[int] = field(default_factory=list)
    suspended: set[int] = field(default_factory=set)
    """Positions of generated tokens at which steering was off, because they lie inside a span."""
    cached_tokens: int = 0
    """Prompt tokens that did not go through the model, because their states were known."""
    finish: FinishReason | None = None
    error: Exception | None = None
    started: float = 0.0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.trail = Trail(self.plan, len(self.prompt))
        self.prefix = prefix_of(self.prompt, self.plan)
        self.generator = generator_of(self.seed)
        self._penalties: Penalties | None = None
        self._recorded = 0

    @property
    def sequence(self) -> list[int]:
        """The prompt and what was generated so far."""
        return [*self.prompt, *self.token_ids]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.token_ids)

    @property
    def over(self) -> bool:
        return self.finish is not None or self.error is not None

    def start(self) -> None:
        self.started = self.started or time.monotonic()

    def passed(self, end: int) -> None:
        """Positions up to `end` went through the model; those it had been told of before are not counted again."""
        start, self._recorded = self._recorded, max(self._recorded, end)
        first = len(self.prompt)
        self.trail.passed(start, min(end, first))
        for position in range(max(start, first), end):
            self.trail.passed(position, position + 1, position not in self.suspended)

    def take(self, logits: torch.Tensor, likeliest: int, eos: frozenset[int]) -> None:
        """Draw the next token and take it in. Sets `finish` where the sample has ended."""
        if self._penalties is None:
            self._penalties = Penalties(self.sampling, len(self.prompt), eos)
        token = self._next(logits, likeliest)
        if token in eos and self.constraint is not None and self.constraint.held_back():
            token = self._next(logits, likeliest)
        if token in eos:
            self.finish = "stop"
            return
        self.token_ids.append(token)
        self.trail.produced()
        self.answer.push(token)
        self.spans.push(token)
        if self.spans.inside:
            self.suspended.add(self.length - 1)
        if self.constraint is not None:
            self.constraint.take(token)
        if self.answer.stopped or (self.constraint is not None and self.constraint.over):
            self.finish = "stop"
        elif len(self.token_ids) >= self.room:
            self.finish = "length"

    def _next(self, logits: torch.Tensor, likeliest: int) -> int:
        """The next token that the sampling draws, of those that the grammar allows."""
        scores = self._penalties(self.sequence, logits) if self._penalties else logits
        if self.constraint is not None:
            plain, scores = scores, self.constraint.masked(scores, self.room - len(self.token_ids))
            if scores is not plain and self._penalties and not bool(scores.isfinite().any()):
                # The grammar has nothing else to say: no penalty forbids that.
                scores = self.constraint.masked(logits, self.room - len(self.token_ids))
        if self.sampling.temperature > 0:
            return draw(scores, self.sampling, self.generator)
        return likeliest if scores is logits else int(scores.argmax())

    @property
    def complete(self) -> bool | None:
        """Whether the answer is whole by its grammar; None where it has none."""
        return None if self.constraint is None else self.constraint.complete and not self.answer.stopped

    def interrupted(self) -> bool:
        """Whether somebody or the clock has ended the sample; `finish` then says which."""
        if self.cancelled():
            self.finish = "cancelled"
        elif self.deadline is not None and time.monotonic() >= self.deadline:
            self.finish = "deadline"
        return self.finish is not None

    def end(self) -> None:
        self.ended = time.monotonic()
        try:
            self.answer.finish()
        except Exception as error:
            self.error = self.error or error
        self.done(self)


def going(samples: Sequence[Sample]) -> list[Sample]:
    """The samples that go on; those that were cancelled, or whose time is up, end here."""
    for sample in samples:
        sample.start()
        if not sample.over and sample.interrupted():
            sample.end()
    return [sample for sample in samples if not sample.over]


def fail(samples: Sequence[Sample], failure: Exception) -> None:
    for sample in samples:
        sample.error = failure
        sample.end()


def steered(samples: Sequence[Sample], positions: Sequence[int]) -> list[bool]:
    """Whether each sample's steering is not suspended at its position."""
    return [position not in sample.suspended for sample, position in zip(samples, positions, strict=True)]


def switches(samples: Sequence[Sample], width: int) -> set[int]:
    """Columns, of `width` that end where the samples do, at which a sample's steering goes off or on again."""
    columns: set[int] = set()
    for sample in samples:
        if sample.suspended:
            off = [position in sample.suspended for position in range(sample.length - width, sample.length)]
            columns |= {column for column in range(1, width) if off[column] != off[column - 1]}
    return columns
