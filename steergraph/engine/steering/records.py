"""What to steer and what was steered: plain data, no tensors, no model.

A `Steering` is asked for; a `Receipt` is what the engine says it did. Knows nothing of how either is carried out.
"""

from typing import Literal

from pydantic import Field, FiniteFloat, field_validator

from steergraph.base.records import Frozen

Unit = Literal["unit_vector", "raw", "residual"]
Positions = Literal["all", "generated"]
TokenRange = tuple[int, int | None]
"""Half-open [start, end) in the row's own numbering: 0 is the first prompt token, None is no end. Negative numbers
count back from the end of the prompt: -1 is its last token."""
Operation = Literal["add", "ablate"]


class Component(Frozen):
    """One vector at one layer at one dose."""

    vector: str
    """Name of a `Directions` in the engine's library."""
    layer: int = Field(ge=0)
    """0-based block whose output is edited (the convention of `model.layers[layer]`)."""
    alpha: FiniteFloat
    """Dose, in `unit`. May be negative; 0 does nothing. Ignored by `ablate`."""
    unit: Unit = "unit_vector"
    """`unit_vector`: alpha times the direction at length 1 (the published convention). `raw`: alpha times the mean
    difference as extracted. `residual`: alpha times the median residual norm at that layer, along the direction."""
    positions: Positions | TokenRange = "all"
    """`all`: prompt and generated tokens. `generated`: from the last prompt token on, which produces the first
    generated token. Or a range of tokens: (0, None) is `all`, (-1, None) is `generated`."""
    operation: Operation = "add"
    """`add` the dose, or `ablate`: remove the component along the direction."""

    @field_validator("positions")
    @classmethod
    def _some_positions(cls, positions: Positions | TokenRange) -> Positions | TokenRange:
        if isinstance(positions, tuple):
            start, end = positions
            if end == 0 or (end is not None and (start < 0) == (end < 0) and start >= end):
                raise ValueError(f"positions {start} to {end} hold no token; the end must be behind the start")
        return positions


class Steering(Frozen):
    """A specialist's steering: one component. Composition studies have several."""

    components: tuple[Component, ...] = Field(min_length=1)


class AppliedComponent(Frozen):
    """One component as it was applied to one row."""

    vector: str
    vector_hash: str
    """SHA-256 of the direction's float32 bytes and its metadata, hex, first 16 characters."""
    layer: int
    alpha: float
    unit: Unit
    positions: Positions | TokenRange
    operation: Operation
    relative_dose: float
    """Norm of what was added over the median residual norm at that layer. 0 for `ablate`."""


class SpentKL(Frozen):
    """What steering spent on one answer: KL(steered || unsteered) of the next-token distributions, in nats, natural
    logarithms, both sides teacher-forced on the answer that was given. Not the KL of whole sequences."""

    mean: float
    p95: float
    """95th percentile over the answer's tokens (linear interpolation)."""
    tokens: int


class Receipt(Frozen):
    """Proof of what was done to which tokens of one completion."""

    components: tuple[AppliedComponent, ...]
    prompt_positions: int
    """Prompt tokens whose residual was edited."""
    generated_positions: int
    """Generated tokens that were produced from an edited residual."""
    steered_ranges: tuple[tuple[int, int], ...]
    """Half-open ranges [start, end) of edited positions in the row's own numbering: 0 is the first prompt token
    after padding; a token generated as number k sits at prompt_tokens + k."""
    kl: SpentKL | None = None
    """Where `Request.measure_kl` asked for it and the answer was neither cancelled nor cut off by its deadline."""
    claimed: bool = False
    """Whether it only says what a server was asked to do, with positions counted from its usage; False where the engine
    that ran the model wrote it."""
