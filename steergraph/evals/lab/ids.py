"""What a sweep's rows are named by: the item that was asked, and the cell that it was answered under.

Knows names and steering records. Knows nothing of what is asked.
"""

from typing import Literal, NamedTuple

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.engine.steering.records import Component, Steering, Unit
from steergraph.evals.lab.experiment import Arm
from steergraph.evals.lab.tasks import Prompt, Split

Source = Literal["contrast", "prompts"]
BASELINE = "baseline"
"""The arm that is not steered."""


class ItemId(NamedTuple):
    """An item of a sweep. As text "law/own/select/3"."""

    domain: str
    prompt: Prompt
    split: Split
    number: int
    """Its place among the questions of its domain and split, the same under both prompts."""

    def __str__(self) -> str:
        return "/".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "ItemId":
        """What `str` gave. Raises InputError for any other text."""
        match text.rsplit("/", 3):
            case [domain, "own" | "open" as prompt, "select" | "report" as split, number] if number.isdecimal():
                return cls(domain, prompt, split, int(number))
        raise InputError(f"{text!r} is no item of a sweep")


class Cell(Frozen):
    """Where one arm of a sweep is steered, and how strongly. As text, which is its arm's name,
    "contrast/residual/0.3/layer 4"."""

    domain: str
    source: Source
    unit: Unit
    alpha: float
    layer: int

    def __str__(self) -> str:
        return f"{self.source}/{self.unit}/{self.alpha:g}/layer {self.layer}"

    @property
    def arm(self) -> Arm:
        vector = vector_name(self.domain, self.source)
        component = Component(vector=vector, layer=self.layer, alpha=self.alpha, unit=self.unit, positions="all")
        return Arm(name=str(self), steering=Steering(components=(component,)))


def vector_name(domain: str, source: Source) -> str:
    """The vector of a domain that a cell of `source` is steered by."""
    return domain if source == "contrast" else f"{domain}_prompt"
