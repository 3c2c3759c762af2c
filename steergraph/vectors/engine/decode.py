"""The decode loop: a batch of rows, each with its own steering, sampling, limits and end.

Knows the model's forward, its cache and the hooks. Knows nothing of messages, queues or threads.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from steergraph.vectors.engine.forward import Forward, Padded, pad_left
from steergraph.vectors.engine.hooks import ActiveBatch, SteeringHooks
from steergraph.vectors.engine.loading import LoadedModel
from steergraph.vectors.engine.plans import RowPlan
from steergraph.vectors.engine.protocol import FinishReason, Sampling
from steergraph.vectors.engine.sampling import draw, row_generator
from steergraph.vectors.engine.text import AnswerText, SpanWatch
from steergraph.vectors.engine.trail import Trail


@dataclass
class Row:
    """One generation in flight. The loop fills in what is below `done`."""

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
    finish: FinishReason | None = None
    error: Exception | None = None
    started: float = 0.0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.trail = Trail(self.plan, len(self.prompt))
        self.generator = row_generator(self.seed)

    @property
    def position(self) -> int:
        """Where the newest token stands."""
        return len(self.prompt) + len(self.token_ids) - 1

    def take(self, logits: torch.Tensor, likeliest: int, eos: frozenset[int]) -> int | None:
        """Draw the next token and take it in; None where the row has ended."""
        token = likeliest if self.sampling.temperature == 0 else draw(logits, self.sampling, self.generator)
        if token in eos:
            self.finish = "stop"
            return None
        self.token_ids.append(token)
        self.trail.produced()
        self.answer.push(token)
        self.spans.push(token)
        if self.answer.stopped:
            self.finish = "stop"
        elif len(self.token_ids) >= self.room:
            self.finish = "length"
        return None if self.finish else token

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


def decode(
    loaded: LoadedModel,
    hooks: SteeringHooks,
    rows: Sequence[Row],
    *,
    prefill_chunk: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Run `rows` together until each has ended; `row.done` is called for each. Returns the number of forwards.

    The prompts go through at once, or `prefill_chunk` columns at a time; `tick` is called before every forward. A row
    that ends leaves the batch, where the model's cache can let rows go. A row's own error ends that row; an error of
    the forward is raised, with the rows still in flight not done.
    """
    started = time.monotonic()
    for row in rows:
        row.started = started
    with loaded.lock, torch.inference_mode():
        return _Loop(loaded, hooks, rows, tick).run(prefill_chunk)


class _Loop:
    def __init__(
        self, loaded: LoadedModel, hooks: SteeringHooks, rows: Sequence[Row], tick: Callable[[], None]
    ) -> None:
        self._tick = tick
        self._loaded = loaded
        self._hooks = hooks
        self._rows: list[Row | None] = list(rows)
        self._forward = Forward(loaded)
        self._cache: Any = None
        self._forwards = 0

    def run(self, prefill_chunk: int | None) -> int:
        rows = [row for row in self._rows if row is not None]
        padded = pad_left([row.prompt for row in rows], self._loaded.pad_id, self._loaded.device)
        width = padded.ids.shape[1]
        # Room for every column that can come, so that a step only slices it.
        self._mask = torch.nn.functional.pad(padded.mask, (0, max(row.room for row in rows)), value=1)
        plans = [row.plan.place(len(row.prompt)) for row in rows]
        with self._hooks.steering(plans, self._loaded.device) as batch:
            logits = self._prefill(padded, batch, prefill_chunk or width)
            while True:
                tokens = self._take(logits)
                if all(row is None for row in self._rows):
                    return self._forwards
                tokens = self._drop(tokens, batch)
                width += 1
                logits = self._step(tokens, batch, width)

    def _prefill(self, padded: Padded, batch: ActiveBatch, chunk: int) -> torch.Tensor:
        lengths = [len(row.prompt) for row in self._rows if row is not None]
        width = padded.ids.shape[1]
        logits = torch.empty(0)
        for start in range(0, width, chunk):
            end = min(start + chunk, width)
            positions = padded.positions[:, start:end]
            batch.at([start - (width - length) for length in lengths], end - start)
            logits = self._call(padded.ids[:, start:end], padded.mask[:, :end], positions)
            for row, length in zip(self._rows, lengths, strict=True):
                if row is not None:
                    pad = width - length
                    row.trail.passed(max(start - pad, 0), max(end - pad, 0))
        return logits

    def _step(self, tokens: list[int], batch: ActiveBatch, width: int) -> torch.Tensor:
        device = self._loaded.device
        on = [row is not None and not row.spans.inside for row in self._rows]
        # A row that could not leave the batch goes on as a shadow: never edited, never read.
        at = [row.position if row is not None else 0 for row in self._rows]
        positions = torch.tensor(at, device=device)[:, None]
        batch.at(at, 1, on)
        logits = self._call(torch.tensor(tokens, device=device)[:, None], self._mask[:, :width], positions)
        for row, steered in zip(self._rows, on, strict=True):
            if row is not None:
                row.trail.passed(row.position, row.position + 1, steered)
        return logits

    def _call(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        self._tick()
        logits, self._cache = self._forward(ids, mask, positions, cache=self._cache, use_cache=True)
        self._forwards += 1
        return logits[:, -1]

    def _take(self, logits: torch.Tensor) -> list[int]:
        """Every row's next token; rows that end become None."""
        likeliest = logits.argmax(dim=-1).tolist()
        tokens = [self._loaded.pad_id] * len(self._rows)
        for index, row in enumerate(self._rows):
            if row is None:
                continue
            token = None
            try:
                if not row.interrupted():
                    token = row.take(logits[index], likeliest[index], self._loaded.eos_ids)
            except Exception as error:  # one row's trouble (its sampling, its text) is not its neighbours'
                row.error = error
            if token is None:
                self._rows[index] = None
                row.end()
            else:
                tokens[index] = token
        return tokens

    def _drop(self, tokens: list[int], batch: ActiveBatch) -> list[int]:
        """Let rows that have ended go, and their cost with them."""
        kept = [index for index, row in enumerate(self._rows) if row is not None]
        if len(kept) == len(self._rows) or not _can_select(self._cache):
            return tokens
        rows = torch.tensor(kept, device=self._loaded.device)
        self._cache.reorder_cache(rows)
        self._mask = self._mask[rows]
        batch.select(kept)
        self._rows = [self._rows[index] for index in kept]
        return [tokens[index] for index in kept]


def _can_select(cache: Any) -> bool:
    return hasattr(cache, "reorder_cache") and all(
        hasattr(layer, "reorder_cache") for layer in getattr(cache, "layers", ())
    )
