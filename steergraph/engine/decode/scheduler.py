"""Who goes next: which of the waiting samples join the batch that is running.

Knows lengths and what is known of prompts. Knows nothing of models, tensors or threads. The oldest always comes first:
where it does not fit beside what runs, nobody passes it, and the batch runs down until it does.
"""

from collections.abc import Sequence
from typing import Protocol

from steergraph.engine.decode.samples import Sample

MAX_NEW_TOKENS = 16384
"""Padded tokens that go through the model in one forward, unless they are one sample's."""
MAX_COLUMNS = 32768
"""Rows times the longest of them, in the running batch, unless it has a single sample."""
SMALL = 1024
"""Padded tokens that are not worth a forward of their own."""
WORTH_WAITING = 64
"""Tokens that a sample must save to be left for the next forward."""


class Batch(Protocol):
    """What is running: `decode.Decoder` is one."""

    samples: list[Sample]

    @property
    def free(self) -> int: ...

    def known(self, sample: Sample) -> int:
        """Tokens at the beginning of the sample's prompt that need not be computed."""
        ...

    def known_after(self, sample: Sample, other: Sample) -> int:
        """The same, after `other` was taken in."""
        ...


def choose(waiting: Sequence[Sample], batch: Batch) -> list[Sample]:
    """Rows of `waiting` (oldest first) to be taken in together; none where the oldest must wait.

    Their prompts go through the model side by side, so they are of similar length, not counting what is known. Of
    those that begin alike only the first is taken: for the others its prompt is known then.
    """
    chosen: list[Sample] = []
    new: list[int] = []
    lengths = [sample.length for sample in batch.samples]
    slots = batch.free
    for sample in waiting:
        if len(chosen) == slots:
            break
        known = batch.known(sample)
        if any(batch.known_after(sample, other) >= known + WORTH_WAITING for other in chosen):
            continue
        cost = sample.length - known
        if _similar([*new, cost]) and _fits([*lengths, sample.length]):
            chosen.append(sample)
            new.append(cost)
            lengths.append(sample.length)
        elif not chosen:
            break
    return chosen


def _similar(new: Sequence[int]) -> bool:
    padded = len(new) * max(new)
    return len(new) == 1 or (padded <= MAX_NEW_TOKENS and (padded <= SMALL or padded <= 1.25 * sum(new)))


def _fits(lengths: Sequence[int]) -> bool:
    padded = len(lengths) * max(lengths)
    return len(lengths) == 1 or (padded <= MAX_COLUMNS and (padded <= 4 * SMALL or padded <= 2 * sum(lengths)))
