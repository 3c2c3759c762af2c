"""How a run is to go: the graph's `context_schema`. JSON-only, every field has a default.

A host's own context object, or none, is accepted: the graph then runs with the defaults.
"""

from dataclasses import dataclass
from typing import Any, Literal

from steergraph.agents.policy import Axes, Axis, Policy
from steergraph.base.errors import InputError


@dataclass(frozen=True)
class Context:
    """One run's settings. `None` leaves an axis to the preset; 0 means no limit."""

    preset: str = "auto"
    steering: Axis | None = None
    retrieval: Literal["on", "off"] | None = None
    gate: Literal["on", "off"] | None = None
    test: str | None = None
    """Shell command that tests the repository, run before and after in the sandbox."""
    unsafe_tests: bool = False
    """Run it with limits only where no sandbox can be had."""
    test_seconds: float = 120.0
    max_seconds: float = 0.0
    max_tokens: int = 0
    """Completion tokens of all steps together."""
    max_repairs: int | None = None
    """None: the policy's."""
    seed: int = 0
    thinking: bool = False
    temperature: float = 0.0
    """Of every step that is no repair, which has the policy's. With more than 0, top_p is the policy's too."""
    dose: float = 1.0
    """Factor on every steering's alpha."""
    vector: str | None = None
    """A domain whose vector every specialist speaks with, instead of its own; None: each with its own."""

    @classmethod
    def of(cls, given: Any) -> "Context":
        """`given` where it is a Context, else the defaults: a parent graph's context object means nothing here."""
        return given if isinstance(given, cls) else cls()

    def axes(self, policy: Policy) -> Axes:
        return policy.axes(self.preset, self.steering, _flag("retrieval", self.retrieval), _flag("gate", self.gate))


def _flag(name: str, value: str | None) -> bool | None:
    if value not in ("on", "off", None):
        raise InputError(f"{name} is {value!r}: say on or off, or leave it to the preset")
    return None if value is None else value == "on"
