"""Which positions of one row were edited: what its receipt says.

Knows positions in a row's own numbering. Knows nothing of tensors or forwards.
"""

from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.records import Receipt


class Trail:
    """Follows one row through its forwards."""

    def __init__(self, plan: SteeringPlan, prompt_tokens: int) -> None:
        self._plan = plan
        self._placed = plan.place(prompt_tokens)
        self._prompt_tokens = prompt_tokens
        self._ranges: list[tuple[int, int]] = []
        self._produced = 0
        self.last_edited = False
        """Whether the newest position was edited: the next token is then produced from an edited residual."""

    def passed(self, start: int, end: int, on: bool = True) -> None:
        """Positions [start, end) went through the model, with steering `on` or not."""
        if end <= start:
            return
        segments = self._placed.segments(start, end) if on else []
        for first, last, _ in segments:
            self._add(first, last)
        self.last_edited = bool(segments) and segments[-1][1] == end

    def produced(self) -> None:
        """A token was produced from the newest position and kept."""
        self._produced += self.last_edited

    def _add(self, start: int, end: int) -> None:
        if self._ranges and self._ranges[-1][1] == start:
            start = self._ranges.pop()[0]
        self._ranges.append((start, end))

    def receipt(self) -> Receipt:
        prompt = sum(max(0, min(end, self._prompt_tokens) - start) for start, end in self._ranges)
        return Receipt(
            components=self._plan.applied,
            prompt_positions=prompt,
            generated_positions=self._produced,
            steered_ranges=tuple(self._ranges),
        )
