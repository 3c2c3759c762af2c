"""One generation in flight: its tokens so far, its limits, its text, and what happened to it.

Knows sampling, text and ends. Knows nothing of batches, caches or forwards.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from steergraph.engine.cache.prefix_cache import prompt_of
from steergraph.engine.decode.sampling import Penalties, draw, row_generator
from steergraph.engine.decode.text import AnswerText, SpanWatch
from steergraph.engine.protocol import FinishReason, Sampling
from steergraph.engine.steering.plans import RowPlan
from steergraph.engine.steering.receipts import Trail


@dataclass(eq=False)
class Row:
    """What is below `done` belongs to the loop. A row can be taken out of its batch and put into another at any time:
    all that it is stands here, and its cache can be computed again from its tokens."""

    prompt: Sequence[int]
    plan: RowPlan
    sampling: Sampling
    seed: int
    answer: AnswerText
    spans: SpanWatch
    room: int
    """Tokens that may still be produced: `max_new_tokens`, or what the window leaves."""
    deadline: float | None
    """On the clock of `time.monotonic`."""
    cancelled: Callable[[], bool]
    done: Callable[["Row"], None]
    """Called once, when the row has ended, with `finish` or `error` set."""
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
        self.prefix = prompt_of(self.prompt, self.plan)
        self.generator = row_generator(self.seed)
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
        """Draw the next token and take it in. Sets `finish` where the row has ended."""
        if self._penalties is None:
            self._penalties = Penalties(self.sampling, len(self.prompt), eos)
        if self._penalties:
            logits = self._penalties(self.sequence, logits)
            likeliest = int(logits.argmax())
        token = likeliest if self.sampling.temperature == 0 else draw(logits, self.sampling, self.generator)
        if token in eos:
            self.finish = "stop"
            return
        self.token_ids.append(token)
        self.trail.produced()
        self.answer.push(token)
        self.spans.push(token)
        if self.spans.inside:
            self.suspended.add(self.length - 1)
        if self.answer.stopped:
            self.finish = "stop"
        elif len(self.token_ids) >= self.room:
            self.finish = "length"

    def interrupted(self) -> bool:
        """Whether somebody or the clock has ended the row; `finish` then says which."""
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


def going(rows: Sequence[Row]) -> list[Row]:
    """The rows that go on; those that were cancelled, or whose time is up, end here."""
    for row in rows:
        row.start()
        if not row.over and row.interrupted():
            row.end()
    return [row for row in rows if not row.over]


def fail(rows: Sequence[Row], failure: Exception) -> None:
    for row in rows:
        row.error = failure
        row.end()


def steered(rows: Sequence[Row], positions: Sequence[int]) -> list[bool]:
    """Whether each row's steering is not suspended at its position."""
    return [position not in row.suspended for row, position in zip(rows, positions, strict=True)]


def switches(rows: Sequence[Row], width: int) -> set[int]:
    """Columns, of `width` that end where the rows do, at which some row's steering is suspended or taken up again."""
    found = set()
    for row in rows:
        if row.suspended:
            off = [position in row.suspended for position in range(row.length - width, row.length)]
            found |= {column for column in range(1, width) if off[column] != off[column - 1]}
    return found


def _fail(rows: Sequence[Row], failure: Exception) -> None:
    for row in rows:
        row.error = failure
        row.end()
