"""The decode loop: a batch that rows join and leave, each with its own steering, sampling, limits and end.

Knows the model's forward, its cache and the hooks. Knows nothing of messages, queues or threads. Whatever a row is
stands in the row: where a forward fails, the batch is taken apart and its rows' caches are computed again.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from steergraph.engine.cache.kv_cache import ROOM, Layout, Piece, cut, empty, gather, layout_of, states_of
from steergraph.engine.cache.prefix_cache import Found, PrefixStore, shared
from steergraph.engine.decode.rows import Row, fail, going, steered, switches
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.steering.hooks import ActiveBatch, SteeringHooks
from steergraph.engine.steering.plans import PlacedPlan

PATIENCE = 16
"""Steps without a failure after which a batch may be twice as large again."""


@dataclass
class Counters:
    """What has been run so far."""

    batches: int = 0
    """Groups of rows whose prompts went through the model together."""
    forwards: int = 0
    rows: int = 0


class Decoder:
    """One batch. Its driver calls `admit` and `step` until `rows` and `resumed` are empty. Errors end in rows."""

    def __init__(
        self,
        loaded: LoadedModel,
        hooks: SteeringHooks,
        *,
        max_rows: int,
        prefixes: PrefixStore | None = None,
        chunk: int | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Prompts go through at once, or `chunk` columns at a time. A row alone is then cut at multiples of it, and so
        meets the same shapes, and the same rounding, whether its first chunks were known or not. `tick` is called
        before every forward."""
        self._loaded, self._hooks, self._tick, self._chunk = loaded, hooks, tick, chunk
        self._forward = Forward(loaded)
        self._prefixes = PrefixStore(0) if prefixes is None else prefixes
        self._layout = self._learn_layout()
        self._max_rows = self._limit = max_rows
        self._calm = 0
        self._cache: Any = None
        self._mask = torch.empty(0)
        self._width = 0
        self._steering = ExitStack()
        self._active: ActiveBatch | None = None
        self.rows: list[Row] = []
        """Those in the batch; of each all but the newest token is in the cache."""
        self.resumed: deque[Row] = deque()
        """Those whose batch failed. They come before new ones."""
        self.counters = Counters()

    @property
    def free(self) -> int:
        """How many rows may join now. Those of a model whose cache is not known run one at a time."""
        return max(0, (self._limit if self._layout else 1) - len(self.rows))

    @property
    def busy(self) -> bool:
        return bool(self.rows or self.resumed)

    def take_resumed(self) -> list[Row]:
        """As many of the resumed rows as may join now."""
        return [self.resumed.popleft() for _ in range(min(self.free, len(self.resumed)))]

    def known(self, row: Row) -> int:
        """How many tokens at the beginning of the row's prompt need not be computed."""
        return self._find(row).tokens

    def known_after(self, row: Row, other: Row) -> int:
        """The same, after `other` was taken in."""
        return shared(row.prefix, other.prefix) if self._prefixes.limit and self._layout else 0

    def _find(self, row: Row) -> Found:
        found = self._prefixes.find(row.prefix)
        return Found(found.entry, found.tokens - found.tokens % self._chunk) if self._chunk else found

    def admit(self, rows: Sequence[Row]) -> None:
        """Take in `rows`: their prompts go through the model together and their first tokens are drawn."""
        rows = going(rows)
        if not rows:
            return
        failure = self._try(partial(self._join, rows))
        if failure is None:
            return
        rows = going(rows)
        if len(rows) > 1:
            self.admit(rows[: len(rows) // 2])
            self.admit(rows[len(rows) // 2 :])
        elif _out_of_memory(failure) and (self.rows or self._prefixes.size):
            self._dissolve(rows)
        else:
            fail(rows, failure)

    def step(self) -> None:
        """One more token for every row."""
        if not self.rows:
            return
        rows = going(self.rows)
        failure = self._try(partial(self._next, rows))
        if failure is None:
            self._calm += 1
            if self._calm % PATIENCE == 0:
                self._limit = min(self._max_rows, self._limit * 2)
        elif len(rows) > 1 or (_out_of_memory(failure) and self._prefixes.size and self._calm):
            self._dissolve(())
        else:
            self._drop()
            fail(rows, failure)

    def pause(self) -> None:
        """Leave the model unsteered until the next step, so that somebody else can run it."""
        self._active = None
        with suppress(SteeringError):  # a step has said so already
            self._steering.close()

    def _try(self, work: Callable[[], None]) -> Exception | None:
        with self._loaded.lock, torch.inference_mode():
            try:
                work()
            except Exception as error:  # without its traceback, which would keep the failed forward's tensors
                return error.with_traceback(None)
        return None

    def _drop(self) -> None:
        self.pause()
        self.rows, self._cache = [], None

    def _dissolve(self, more: Sequence[Row]) -> None:
        """Give all memory back. Half of the rows may come again at once."""
        rows = going([*self.rows, *more])
        self._limit = max(1, len(rows) // 2)
        self._calm = 0
        self.resumed.extendleft(reversed(rows))
        self._drop()
        self._prefixes.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _join(self, rows: list[Row]) -> None:
        self.pause()
        logits, cache = self._prefill(rows)
        self._take(rows, logits)
        self._regroup([(self.rows, self._cache), (rows, cache)])

    def _next(self, rows: list[Row]) -> None:
        if len(rows) < len(self.rows):
            self._regroup([(self.rows, self._cache)])
        if not rows:
            return
        if self._active is None:
            self._active = self._steering.enter_context(self._hooks.steering(_plans(rows), self._loaded.device))
        self._width += 1
        if self._width > self._mask.shape[1]:
            self._mask = torch.nn.functional.pad(self._mask, (0, ROOM), value=1)
        at = [row.length - 1 for row in rows]
        self._active.at(at, 1, steered(rows, at))
        ids = torch.tensor([row.token_ids[-1:] for row in rows], device=self._loaded.device)
        positions = torch.tensor(at, device=self._loaded.device)[:, None]
        logits, self._cache = self._call(ids, self._mask[:, : self._width], positions, self._cache)
        if self._active.announced and not self._active.reached:
            self._steering.close()  # raises what there is to say
        for row in rows:
            row.passed(row.length)
        self._take(rows, logits)
        self._regroup([(rows, self._cache)])

    def _prefill(self, rows: Sequence[Row]) -> tuple[torch.Tensor, Any]:
        """(logits [rows, vocabulary] of the last column, the cache)."""
        device = self._loaded.device
        found = [self._find(row) for row in rows]
        new = max(row.length - one.tokens for row, one in zip(rows, found, strict=True))
        # Every row sends its last `new` tokens: what would else be padding are known tokens, computed once more.
        used = [max(0, row.length - new) for row in rows]
        known = max(used)
        cache = self._known_states(found, used, known)
        unknown = [row.sequence[start:] for row, start in zip(rows, used, strict=True)]
        padded = pad_left(unknown, self._loaded.pad_id, device)
        starts = torch.tensor(used, device=device)[:, None]
        positions = padded.positions + starts
        mask = torch.cat([(torch.arange(known, device=device) >= known - starts).long(), padded.mask], dim=1)
        cuts = sorted({0, new, *range(0, new, self._chunk or new), *switches(rows, new)})
        logits = torch.empty(0)
        with self._hooks.steering(_plans(rows), device) as active:
            for start, end in pairwise(cuts):
                at = [row.length - new + start for row in rows]
                active.at(at, end - start, steered(rows, at))
                logits, cache = self._call(
                    padded.ids[:, start:end], mask[:, : known + end], positions[:, start:end], cache
                )
        self.counters.batches += 1
        self.counters.rows += len(rows)
        for row, count in zip(rows, used, strict=True):
            row.passed(row.length)
            row.cached_tokens = row.cached_tokens if row.token_ids else count
        self._keep(rows, cache, known + new)
        return logits, cache

    def _keep(self, rows: Sequence[Row], cache: Any, width: int) -> None:
        """Keep the rows' prompts for others."""
        for index, row in enumerate(rows):
            first = width - row.length
            last = first + len(row.prefix.tokens)
            if self._layout is not None:
                self._prefixes.put(row.prefix, partial(cut, states_of(cache), index, first, last))

    def _known_states(self, found: Sequence[Found], used: Sequence[int], width: int) -> Any:
        if self._layout is None:
            return None
        shape = next((one.entry for one, count in zip(found, used, strict=True) if one.entry and count), None)
        if shape is None:
            return empty(self._layout)
        pieces = []
        for one, count in zip(found, used, strict=True):
            if count:
                self._prefixes.touch(one)
            layers = (one.entry or shape).layers
            pieces.append(Piece([tuple(part[..., :count, :] for part in layer) for layer in layers], count))
        return gather(self._layout, pieces, width, settled=False)

    def _regroup(self, parts: Sequence[tuple[list[Row], Any]]) -> None:
        """Make one batch of the rows of `parts` that go on. All but the newest token of each is in its part's cache."""
        staying = [going(rows) for rows, _ in parts]
        if len(parts) == 1 and len(staying[0]) == len(parts[0][0]):
            return
        rows = [row for some in staying for row in some]
        self.pause()
        lengths = torch.tensor([row.length - 1 for row in rows], device=self._loaded.device)[:, None]
        width = int(lengths.max()) if rows else 0
        if self._layout is not None and rows:
            pieces = []
            for (before, cache), after in zip(parts, staying, strict=True):
                if after:
                    index = torch.tensor([k for k, row in enumerate(before) if not row.over])
                    pieces.append(Piece(states_of(cache), max(row.length - 1 for row in after), index))
            self._cache = gather(self._layout, pieces, width, settled=True)
        else:
            self._cache = parts[-1][1] if rows else None
        self.rows, self._width = rows, width
        self._mask = (torch.arange(width + ROOM, device=self._loaded.device) >= width - lengths).long()

    def _call(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, Any]:
        self._tick()
        logits, cache = self._forward(ids, mask, positions, cache=cache, use_cache=True)
        self.counters.forwards += 1
        return logits[:, -1], cache

    def _take(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """Every row's next token."""
        likeliest = logits.argmax(dim=-1).tolist()
        for index, row in enumerate(rows):
            try:
                row.take(logits[index], likeliest[index], self._loaded.eos_ids)
            except Exception as error:  # one row's trouble (its sampling, its text) is not its neighbours'
                row.error = error
            if row.over:
                row.end()

    def _learn_layout(self) -> Layout | None:
        """Only the model knows which of its layers slide or convolve: it is asked with one token."""
        one = torch.full((1, 1), self._loaded.pad_id, device=self._loaded.device)
        with self._loaded.lock, torch.inference_mode():
            _, cache = self._forward(one, torch.ones_like(one), torch.zeros_like(one), use_cache=True)
        return layout_of(cache)


def _plans(rows: Sequence[Row]) -> list[PlacedPlan]:
    return [row.plan.place(len(row.prompt)) for row in rows]


def _out_of_memory(failure: Exception) -> bool:
    words = str(failure).lower()
    return isinstance(failure, MemoryError | torch.OutOfMemoryError) or (
        isinstance(failure, RuntimeError) and ("out of memory" in words or "allocate memory" in words)
    )
