"""Who goes next: which of the waiting rows join the batch that is running.

Knows lengths and what is known of prompts. Knows nothing of models, tensors or threads. The oldest always comes first:
where it does not fit beside what runs, nobody passes it, and the batch runs down until it does.
"""

from collections.abc import Sequence
from typing import Protocol

from steergraph.engine.decode.rows import Row

MAX_NEW_TOKENS = 16384
"""Padded tokens that go through the model in one forward, unless they are one row's."""
MAX_COLUMNS = 32768
"""Rows times the longest of them, in the running batch, unless it has a single row."""
SMALL = 1024
"""Padded tokens that are not worth a forward of their own."""
WORTH_WAITING = 64
"""Tokens that a row must save to be left for the next forward."""


class Batch(Protocol):
    """What is running: `decode.Decoder` is one."""

    rows: list[Row]

    @property
    def free(self) -> int: ...

    def known(self, row: Row) -> int:
        """Tokens at the beginning of the row's prompt that need not be computed."""
        ...

    def known_after(self, row: Row, other: Row) -> int:
        """The same, after `other` was taken in."""
        ...


def choose(waiting: Sequence[Row], batch: Batch) -> list[Row]:
    """Rows of `waiting` (oldest first) to be taken in together; none where the oldest must wait.

    Their prompts go through the model side by side, so they are of similar length, not counting what is known. Of
    those that begin alike only the first is taken: for the others its prompt is known then.
    """
    chosen: list[Row] = []
    new: list[int] = []
    lengths = [row.length for row in batch.rows]
    slots = batch.free
    for row in waiting:
        if len(chosen) == slots:
            break
        known = batch.known(row)
        if any(batch.known_after(row, other) >= known + WORTH_WAITING for other in chosen):
            continue
        cost = row.length - known
        if _similar([*new, cost]) and _fits([*lengths, row.length]):
            chosen.append(row)
            new.append(cost)
            lengths.append(row.length)
        elif not chosen:
            break
    return chosen


def _similar(new: Sequence[int]) -> bool:
    padded = len(new) * max(new)
    return len(new) == 1 or (padded <= MAX_NEW_TOKENS and (padded <= SMALL or padded <= 1.25 * sum(new)))


def _fits(lengths: Sequence[int]) -> bool:
    padded = len(lengths) * max(lengths)
    return len(lengths) == 1 or (padded <= MAX_COLUMNS and (padded <= 4 * SMALL or padded <= 2 * sum(lengths)))
