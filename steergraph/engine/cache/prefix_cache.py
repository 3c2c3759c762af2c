"""Prompts' states that were computed once and are used again: bounded in bytes, the least recently used goes first.

Knows tokens and what steering a stretch of prompt was computed under. Knows nothing of models or batches. Never decides
how a row is steered: where a prompt is steered from its first token, only a prompt that was steered in the same way
helps, and where steering begins later, any unsteered prompt with the same beginning does.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from steergraph.engine.cache.kv_cache import States, size_of
from steergraph.engine.steering.plans import SteeringPlan, token_range

LEAST = 8
"""Fewer tokens than this are computed again: looking after them costs as much."""


class Prefix(NamedTuple):
    """A prompt without its last token, which always goes through the model."""

    tokens: tuple[int, ...]
    steered: str
    """What is done to these tokens, as text; "" for nothing."""
    plain: int
    """How many of them come before the first steered one."""


class Match(NamedTuple):
    """What of a prompt need not be computed."""

    prefix: Prefix | None
    """The one in the cache."""
    layers: list[States]
    """Its states: one row, one column for each of its tokens."""
    tokens: int
    """How many of its first tokens are those that were looked for, and computed in the same way."""


NO_MATCH = Match(None, [], 0)


class PrefixCache:
    """Used by one thread."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; 0 keeps nothing."""
        self.limit = limit
        self.size = 0
        self._states: OrderedDict[Prefix, list[States]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def find(self, prefix: Prefix) -> Match:
        """The one with the longest beginning in common with `prefix`."""
        best = NO_MATCH
        for cached, layers in self._states.items():
            tokens = shared_length(prefix, cached)
            if tokens > best.tokens:
                best = Match(cached, layers, tokens)
        return best if best.tokens >= LEAST else NO_MATCH

    def touch(self, match: Match) -> None:
        """Say that `match` was used."""
        if match.prefix is not None and match.prefix in self._states:
            self._states.move_to_end(match.prefix)

    def put(self, prefix: Prefix, states: Callable[[], list[States]]) -> None:
        """Keep it, unless a longer one with this beginning is there. `states` makes a copy of its states."""
        if len(prefix.tokens) < LEAST or not self.limit:
            return
        for cached in [cached for cached in self._states if cached.steered == prefix.steered]:
            same = common_length(cached.tokens, prefix.tokens)
            if same == len(prefix.tokens):
                return self._states.move_to_end(cached)
            if same == len(cached.tokens):
                self._drop(cached)
        layers = states()
        if size_of(layers) <= self.limit:
            self._states[prefix] = layers
            self.size += size_of(layers)
        while self.size > self.limit:
            self._drop(next(iter(self._states)))

    def clear(self) -> None:
        self._states.clear()
        self.size = 0

    def _drop(self, prefix: Prefix) -> None:
        self.size -= size_of(self._states.pop(prefix))


def prefix_of(tokens: Sequence[int], plan: SteeringPlan) -> Prefix:
    """What of a row's prompt may be kept."""
    last = len(tokens) - 1
    placed = plan.place(len(tokens))
    segments = placed.segments(0, last)
    if not segments:
        return Prefix(tuple(tokens[:last]), "", last)
    spans = dict(zip(plan.ranges, placed.spans, strict=True))
    done = [
        (component.model_dump(mode="json", exclude={"positions"}), span)
        for component in plan.applied
        if (span := spans[token_range(component.positions)])[0] < last
    ]
    return Prefix(tuple(tokens[:last]), json.dumps(done), segments[0][0])


def shared_length(prefix: Prefix, cached: Prefix) -> int:
    """How many of the first tokens of `prefix` are those of `cached`, computed in the same way."""
    if prefix.steered == cached.steered:
        return common_length(prefix.tokens, cached.tokens)
    return 0 if cached.steered else common_length(prefix.tokens[: prefix.plain], cached.tokens)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of their first tokens are the same."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # the first `low` agree, the first `high` do not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
