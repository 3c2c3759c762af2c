"""The decode loop: a batch that samples join and leave, each with its own steering, sampling, limits and end.

Knows the model's forward, its cache and the hooks. Knows nothing of messages, queues or threads. Whatever a sample is
stands in the sample: where a forward fails, the batch is taken apart and its samples' caches are computed again.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from steergraph.engine.cache.kv_cache import ROOM, CachedRows, Layout, cut, empty, gather, layout_of, states_of
from steergraph.engine.cache.prefix_cache import Match, PrefixCache, shared_length
from steergraph.engine.decode.samples import Sample, fail, going, steered, switches
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
    """Groups of samples whose prompts went through the model together."""
    forwards: int = 0
    samples: int = 0


class Decoder:
    """One batch. Its driver calls `admit` and `step` until `samples` and `resumed` are empty. Errors end in samples."""

    def __init__(
        self,
        loaded: LoadedModel,
        hooks: SteeringHooks,
        *,
        max_rows: int,
        prefixes: PrefixCache | None = None,
        chunk: int | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Prompts go through at once, or `chunk` columns at a time. A sample alone is then cut at multiples of it, and
        so meets the same shapes, and the same rounding, whether its first chunks were known or not. `tick` is called
        before every forward."""
        self._loaded, self._hooks, self._tick, self._chunk = loaded, hooks, tick, chunk
        self._forward = Forward(loaded)
        self._prefixes = PrefixCache(0) if prefixes is None else prefixes
        self._layout = self._learn_layout()
        self._max_rows = self._limit = max_rows
        self._calm = 0
        self._cache: Any = None
        self._mask = torch.empty(0)
        self._width = 0
        self._steering = ExitStack()
        self._active: ActiveBatch | None = None
        self.samples: list[Sample] = []
        """Those in the batch; of each all but the newest token is in the cache."""
        self.resumed: deque[Sample] = deque()
        """Those whose batch failed. They come before new ones."""
        self.counters = Counters()

    @property
    def free(self) -> int:
        """How many samples may join now. Those of a model whose cache is not known run one at a time."""
        return max(0, (self._limit if self._layout else 1) - len(self.samples))

    @property
    def busy(self) -> bool:
        return bool(self.samples or self.resumed)

    def take_resumed(self) -> list[Sample]:
        """As many of the resumed samples as may join now."""
        return [self.resumed.popleft() for _ in range(min(self.free, len(self.resumed)))]

    def known(self, sample: Sample) -> int:
        """How many tokens at the beginning of the sample's prompt need not be computed."""
        return self._find(sample).tokens

    def known_after(self, sample: Sample, other: Sample) -> int:
        """The same, after `other` was taken in."""
        return shared_length(sample.prefix, other.prefix) if self._prefixes.limit and self._layout else 0

    def _find(self, sample: Sample) -> Match:
        match = self._prefixes.find(sample.prefix)
        return match._replace(tokens=match.tokens - match.tokens % self._chunk) if self._chunk else match

    def admit(self, samples: Sequence[Sample]) -> None:
        """Take in `samples`: their prompts go through the model together and their first tokens are drawn."""
        samples = going(samples)
        if not samples:
            return
        failure = self._try(partial(self._join, samples))
        if failure is None:
            return
        samples = going(samples)
        if len(samples) > 1:
            self.admit(samples[: len(samples) // 2])
            self.admit(samples[len(samples) // 2 :])
        elif _out_of_memory(failure) and (self.samples or self._prefixes.size):
            self._dissolve(samples)
        else:
            fail(samples, failure)

    def step(self) -> None:
        """One more token for every sample."""
        if not self.samples:
            return
        samples = going(self.samples)
        failure = self._try(partial(self._next, samples))
        if failure is None:
            self._calm += 1
            if self._calm % PATIENCE == 0:
                self._limit = min(self._max_rows, self._limit * 2)
        elif len(samples) > 1 or (_out_of_memory(failure) and self._prefixes.size and self._calm):
            self._dissolve(())
        else:
            self._drop()
            fail(samples, failure)

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
        self.samples, self._cache = [], None

    def _dissolve(self, more: Sequence[Sample]) -> None:
        """Give all memory back. Half of the samples may come again at once."""
        samples = going([*self.samples, *more])
        self._limit = max(1, len(samples) // 2)
        self._calm = 0
        self.resumed.extendleft(reversed(samples))
        self._drop()
        self._prefixes.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _join(self, samples: list[Sample]) -> None:
        self.pause()
        logits, cache = self._prefill(samples)
        self._take(samples, logits)
        self._regroup([(self.samples, self._cache), (samples, cache)])

    def _next(self, samples: list[Sample]) -> None:
        if len(samples) < len(self.samples):
            self._regroup([(self.samples, self._cache)])
        if not samples:
            return
        if self._active is None:
            self._active = self._steering.enter_context(self._hooks.steering(_plans(samples), self._loaded.device))
        self._width += 1
        if self._width > self._mask.shape[1]:
            self._mask = torch.nn.functional.pad(self._mask, (0, ROOM), value=1)
        at = [sample.length - 1 for sample in samples]
        self._active.at(at, 1, steered(samples, at))
        ids = torch.tensor([sample.token_ids[-1:] for sample in samples], device=self._loaded.device)
        positions = torch.tensor(at, device=self._loaded.device)[:, None]
        logits, self._cache = self._call(ids, self._mask[:, : self._width], positions, self._cache)
        if self._active.announced and not self._active.reached:
            self._steering.close()  # raises what there is to say
        for sample in samples:
            sample.passed(sample.length)
        self._take(samples, logits)
        self._regroup([(samples, self._cache)])

    def _prefill(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, Any]:
        """(logits [rows, vocabulary] of the last column, the cache)."""
        device = self._loaded.device
        matches = [self._find(sample) for sample in samples]
        new = max(sample.length - match.tokens for sample, match in zip(samples, matches, strict=True))
        # Every sample sends its last `new` tokens: what would else be padding are known tokens, computed once more.
        used = [max(0, sample.length - new) for sample in samples]
        known = max(used)
        cache = self._known_states(matches, used, known)
        unknown = [sample.sequence[start:] for sample, start in zip(samples, used, strict=True)]
        padded = pad_left(unknown, self._loaded.pad_id, device)
        starts = torch.tensor(used, device=device)[:, None]
        positions = padded.positions + starts
        mask = torch.cat([(torch.arange(known, device=device) >= known - starts).long(), padded.mask], dim=1)
        cuts = sorted({0, new, *range(0, new, self._chunk or new), *switches(samples, new)})
        logits = torch.empty(0)
        with self._hooks.steering(_plans(samples), device) as active:
            for start, end in pairwise(cuts):
                at = [sample.length - new + start for sample in samples]
                active.at(at, end - start, steered(samples, at))
                logits, cache = self._call(
                    padded.ids[:, start:end], mask[:, : known + end], positions[:, start:end], cache
                )
        self.counters.batches += 1
        self.counters.samples += len(samples)
        for sample, count in zip(samples, used, strict=True):
            sample.passed(sample.length)
            sample.cached_tokens = sample.cached_tokens if sample.token_ids else count
        self._keep(samples, cache, known + new)
        return logits, cache

    def _keep(self, samples: Sequence[Sample], cache: Any, width: int) -> None:
        """Keep the samples' prompts for others."""
        for index, sample in enumerate(samples):
            first = width - sample.length
            last = first + len(sample.prefix.tokens)
            if self._layout is not None:
                self._prefixes.put(sample.prefix, partial(cut, states_of(cache), index, first, last))

    def _known_states(self, matches: Sequence[Match], used: Sequence[int], width: int) -> Any:
        if self._layout is None:
            return None
        shape = next((match.layers for match, count in zip(matches, used, strict=True) if count), None)
        if shape is None:
            return empty(self._layout)
        groups = []
        for match, count in zip(matches, used, strict=True):
            if count:
                self._prefixes.touch(match)
            layers = match.layers or shape
            groups.append(CachedRows([tuple(part[..., :count, :] for part in layer) for layer in layers], count))
        return gather(self._layout, groups, width, settled=False)

    def _regroup(self, parts: Sequence[tuple[list[Sample], Any]]) -> None:
        """One batch of the samples of `parts` that go on. All but each one's newest token is in its part's cache."""
        staying = [going(samples) for samples, _ in parts]
        if len(parts) == 1 and len(staying[0]) == len(parts[0][0]):
            return
        samples = [sample for some in staying for sample in some]
        self.pause()
        lengths = torch.tensor([sample.length - 1 for sample in samples], device=self._loaded.device)[:, None]
        width = int(lengths.max()) if samples else 0
        if self._layout is not None and samples:
            groups = []
            for (before, cache), after in zip(parts, staying, strict=True):
                if after:
                    index = torch.tensor([k for k, sample in enumerate(before) if not sample.over])
                    groups.append(CachedRows(states_of(cache), max(sample.length - 1 for sample in after), index))
            self._cache = gather(self._layout, groups, width, settled=True)
        else:
            self._cache = parts[-1][1] if samples else None
        self.samples, self._width = samples, width
        self._mask = (torch.arange(width + ROOM, device=self._loaded.device) >= width - lengths).long()

    def _call(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, Any]:
        self._tick()
        logits, cache = self._forward(ids, mask, positions, cache=cache, use_cache=True)
        self.counters.forwards += 1
        return logits[:, -1], cache

    def _take(self, samples: Sequence[Sample], logits: torch.Tensor) -> None:
        """Every sample's next token."""
        likeliest = logits.argmax(dim=-1).tolist()
        for index, sample in enumerate(samples):
            try:
                sample.take(logits[index], likeliest[index], self._loaded.eos_ids)
            except Exception as error:  # one sample's trouble (its sampling, its text) is not its neighbours'
                sample.error = error
            if sample.over:
                sample.end()

    def _learn_layout(self) -> Layout | None:
        """Only the model knows which of its layers slide or convolve: it is asked with one token."""
        one = torch.full((1, 1), self._loaded.pad_id, device=self._loaded.device)
        with self._loaded.lock, torch.inference_mode():
            _, cache = self._forward(one, torch.ones_like(one), torch.zeros_like(one), use_cache=True)
        return layout_of(cache)


def _plans(samples: Sequence[Sample]) -> list[PlacedPlan]:
    return [sample.plan.place(len(sample.prompt)) for sample in samples]


def _out_of_memory(failure: Exception) -> bool:
    words = str(failure).lower()
    return isinstance(failure, MemoryError | torch.OutOfMemoryError) or (
        isinstance(failure, RuntimeError) and ("out of memory" in words or "allocate memory" in words)
    )
