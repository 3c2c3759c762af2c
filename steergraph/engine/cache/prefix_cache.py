"""Prompts' states that were computed once and are used again: bounded in bytes, the least recently used goes first.

Knows tokens and what steering a stretch of prompt was computed under. Knows nothing of models or batches. Never decides
how a row is steered: where a prompt is steered from its first token, only a prompt that was steered in the same way
helps, and where steering begins later, any unsteered prompt with the same beginning does.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steergraph.engine.cache.kv_cache import States, size_of
from steergraph.engine.steering.plans import RowPlan, token_range

LEAST = 8
"""Fewer tokens than this are computed again: looking after them costs as much."""


class Prompt(NamedTuple):
    """A prompt without its last token, which always goes through the model."""

    tokens: tuple[int, ...]
    steered: str
    """What is done to these tokens, as text; "" for nothing."""
    plain: int
    """How many of them come before the first steered one."""


@dataclass(frozen=True, eq=False)
class Entry:
    prompt: Prompt
    layers: list[States]
    """One row, one column for each token."""


class Found(NamedTuple):
    entry: Entry | None
    tokens: int
    """How many of the entry's first tokens are those that were asked for, and computed in the same way."""


NOTHING = Found(None, 0)


class PrefixStore:
    """Used by one thread."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; 0 keeps nothing."""
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[Prompt, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, prompt: Prompt) -> Found:
        """The entry with the longest beginning in common with `prompt`."""
        best = NOTHING
        for kept, entry in self._entries.items():
            tokens = shared(prompt, kept)
            if tokens > best.tokens:
                best = Found(entry, tokens)
        return best if best.tokens >= LEAST else NOTHING

    def touch(self, found: Found) -> None:
        """Say that `found` was used."""
        if found.entry and found.entry.prompt in self._entries:
            self._entries.move_to_end(found.entry.prompt)

    def put(self, prompt: Prompt, states: Callable[[], list[States]]) -> None:
        """Keep the prompt, unless a longer one with this beginning is there. `states` makes a copy of its states."""
        if len(prompt.tokens) < LEAST or not self.limit:
            return
        for kept in [kept for kept in self._entries if kept.steered == prompt.steered]:
            same = common(kept.tokens, prompt.tokens)
            if same == len(prompt.tokens):
                return self._entries.move_to_end(kept)
            if same == len(kept.tokens):
                self._drop(kept)
        entry = Entry(prompt, states())
        if size_of(entry.layers) <= self.limit:
            self._entries[prompt] = entry
            self.size += size_of(entry.layers)
        while self.size > self.limit:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        self._entries.clear()
        self.size = 0

    def _drop(self, kept: Prompt) -> None:
        self.size -= size_of(self._entries.pop(kept).layers)


def prompt_of(tokens: Sequence[int], plan: RowPlan) -> Prompt:
    """What of a row's prompt may be kept."""
    last = len(tokens) - 1
    placed = plan.place(len(tokens))
    pieces = placed.pieces(0, last)
    if not pieces:
        return Prompt(tuple(tokens[:last]), "", last)
    spans = dict(zip(plan.ranges, placed.spans, strict=True))
    at = [spans[token_range(component.positions)] for component in plan.applied]
    done = [
        (component.model_dump(mode="json", exclude={"positions"}), span)
        for component, span in zip(plan.applied, at, strict=True)
        if span[0] < last
    ]
    return Prompt(tuple(tokens[:last]), json.dumps(done), pieces[0][0])


def shared(prompt: Prompt, kept: Prompt) -> int:
    """How many of the first tokens of `prompt` are those of `kept`, computed in the same way."""
    if prompt.steered == kept.steered:
        return common(prompt.tokens, kept.tokens)
    return 0 if kept.steered else common(prompt.tokens[: prompt.plain], kept.tokens)


def common(one: Sequence[int], other: Sequence[int]) -> int:
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
