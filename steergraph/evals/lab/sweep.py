"""The sweep: every layer at every dose, one vector at a time, in every domain, asked with its own prompt and without.

Knows the lab's tasks, its vectors and configs/experiments/sweep.yaml. What is made of the rows is `findings`' business.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from steergraph.base.records import Frozen
from steergraph.configs import load_validated
from steergraph.engine.activations.capture import plain_medians
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Completion, Engine, ScoreRequest
from steergraph.engine.steering.records import Component, Steering, Unit
from steergraph.evals.lab.experiment import Arm, Item, Row, dose_of, speak
from steergraph.sandbox.run import Sandbox
from steergraph.vectors.dose.measure import repetition
from steergraph.vectors.extract.contrast import NEUTRAL_SYSTEM, ContrastSet
from steergraph.vectors.extract.first_use import ensure_vectors
from steergraph.vectors.library import Library
from training.tasks.questions import DOMAINS, Prompt, draw_items, grade_answers
from training.tasks.registers import Registers, draw_register

Source = Literal["contrast", "prompts"]
Split = Literal["select", "report"]
BASELINE = "baseline"


class Coherent(Frozen):
    repetition: float = Field(gt=0)
    nats: float = Field(gt=0)


class SweepSettings(Frozen):
    """configs/experiments/sweep.yaml, validated."""

    seed: int
    domains: tuple[str, ...] = Field(min_length=1)
    doses: dict[Source, dict[Unit, tuple[float, ...] | dict[Literal["auto"], tuple[float, ...]]]] = Field(min_length=1)
    prompts: tuple[Prompt, ...] = Field(min_length=1)
    prompt_texts: int = Field(ge=8)
    select: int = Field(ge=1)
    report: int = Field(ge=1)
    perplexity_items: int = Field(ge=1)
    coherent: Coherent

    @classmethod
    def load(cls, path: str | Path | None = None) -> "SweepSettings":
        """The packaged settings with the keys of a user's file in their place. Raises ConfigError."""
        return load_validated(cls, "experiments/sweep", path)

    @model_validator(mode="after")
    def _known(self) -> "SweepSettings":
        for name in set(self.domains) - set(DOMAINS):
            raise ValueError(f"domains: {name!r} is none of {', '.join(DOMAINS)}")
        for unit, given in ((unit, given) for units in self.doses.values() for unit, given in units.items()):
            if isinstance(given, dict) and (unit != "unit_vector" or "auto" not in given):
                raise ValueError(f"doses: {unit} is a list of alphas; only unit_vector may be {{auto: [...]}}")
            alphas = given["auto"] if isinstance(given, dict) else given
            if not alphas or len(set(alphas)) != len(alphas):
                raise ValueError(f"doses: {unit} has {'an alpha twice' if alphas else 'no alpha'}")
        return self


class Cell(Frozen):
    """Where one arm of a sweep is steered, and how strongly."""

    domain: str
    source: Source
    unit: Unit
    alpha: float
    layer: int

    @property
    def vector(self) -> str:
        return vector_name(self.domain, self.source)

    @property
    def arm(self) -> Arm:
        component = Component(vector=self.vector, layer=self.layer, alpha=self.alpha, unit=self.unit, positions="all")
        return Arm(
            name=f"{self.source}/{self.unit}/{self.alpha:g}/layer {self.layer}",
            steering=Steering(components=(component,)),
        )


def vector_name(domain: str, source: Source) -> str:
    return domain if source == "contrast" else f"{domain}_prompt"


def grid(settings: SweepSettings, domain: str, layers: int, scale: float) -> list[Cell]:
    """Every cell of a domain. `scale` is the residual norm that an `auto` dose is a fraction of."""
    cells = []
    for source, units in settings.doses.items():
        for unit, given in units.items():
            alphas = tuple(float(f"{a * scale:.3g}") for a in given["auto"]) if isinstance(given, dict) else given
            cells += [
                Cell(domain=domain, source=source, unit=unit, alpha=alpha, layer=layer)
                for alpha in alphas
                for layer in range(layers)
            ]
    return cells


def middle_norm(loaded: LoadedModel) -> float:
    """The median residual norm after the block halfway up."""
    return plain_medians(loaded)[loaded.info.n_layers // 2]


def make_vectors(loaded: LoadedModel, settings: SweepSettings, cache_dir: Path | None = None) -> Library:
    """Both sources' vectors for every domain of the sweep, from the cache or made now."""
    sets: list[str | ContrastSet] = list(settings.domains)
    if "prompts" in settings.doses and loaded.info.kind == "instruct":
        sets += [_prompt_set(domain, settings) for domain in settings.domains]
    return ensure_vectors(loaded, sets, cache_dir=cache_dir)


def _prompt_set(domain: str, settings: SweepSettings) -> ContrastSet:
    asked: dict[str, str] = {}
    for index in range(40 * settings.prompt_texts):
        sample = draw_register(domain, f"prompts of {settings.seed}", index)
        asked[sample.messages[-1]["content"]] = sample.messages[0]["content"]
        if len(asked) == 2 * settings.prompt_texts:
            break
    texts, half = list(asked), len(asked) // 2
    return ContrastSet(
        name=vector_name(domain, "prompts"),
        domain=domain,
        description=f"Questions under the system prompt of {domain}, others under a neutral one.",
        positives=tuple(texts[:half]),
        neutrals=tuple(texts[half:]),
        system=asked[texts[0]],
        neutral_system=NEUTRAL_SYSTEM,
    )


@dataclass(frozen=True)
class Sweep:
    """The experiment, over `cells` by domain; an `experiment.Experiment`."""

    plan: SweepSettings
    split: Split
    cells: Mapping[str, Sequence[Cell]]
    registers: Registers
    sandbox: Sandbox
    _items: dict[tuple[str, Prompt], list[Item]] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        cells = {domain: [cell.arm.name for cell in cells] for domain, cells in self.cells.items()}
        return {"experiment": "sweep", "split": self.split, "cells": cells, **self.plan.model_dump(mode="json")}

    def items(self, domain: str, prompt: Prompt) -> list[Item]:
        if (domain, prompt) not in self._items:
            n = self.plan.select if self.split == "select" else self.plan.report
            self._items[domain, prompt] = draw_items(domain, prompt, self.split, self.plan.seed, n)
        return self._items[domain, prompt]

    def pairs(self) -> Iterator[tuple[Item, Arm]]:
        for domain, cells in self.cells.items():
            arms = [Arm(name=BASELINE), *(cell.arm for cell in cells)]
            for prompt in self.plan.prompts:
                # An item's arms are neighbours: they share a prompt, so that a batch has rows of one length.
                yield from ((item, arm) for item in self.items(domain, prompt) for arm in arms)

    def answer(self, engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Row]:
        said = speak(engine, batch)
        texts = [completion.text for completion in said]
        registers = self.registers.tell(texts)
        right = grade_answers([item.truth for item, _ in batch], texts, self.sandbox)
        metrics = [
            {
                "domain": float(register == item.id.split("/", 1)[0]),
                "accurate": accurate,
                "repetition": repetition(completion.token_ids),
            }
            for (item, _), completion, register, accurate in zip(batch, said, registers, right, strict=True)
        ]
        priced = [at for at, (item, _) in enumerate(batch) if said[at].token_ids and self._is_priced(item)]
        for at, nats in zip(priced, _nats(engine, [(batch[at][0], said[at]) for at in priced]), strict=True):
            metrics[at]["nats"] = nats
        return [
            Row(item=item.id, arm=arm.name, text=one.text, metrics=found, relative_dose=dose_of(one.receipt))
            for (item, arm), one, found in zip(batch, said, metrics, strict=True)
        ]

    def _is_priced(self, item: Item) -> bool:
        """Whether an answer's perplexity is taken: of the many cells to choose from, on the first few items each."""
        return self.split == "report" or int(item.id.rsplit("/", 1)[1]) < self.plan.perplexity_items


def _nats(engine: Engine, said: Iterable[tuple[Item, Completion]]) -> list[float]:
    """What a token of each answer costs the unsteered model, in nats: the logarithm of its perplexity."""
    requests = [ScoreRequest(messages=item.messages, continuation=one.token_ids) for item, one in said]
    return [-scores.total / len(scores.logprobs) for scores in engine.score(requests)]
