"""The sweep: every layer at every dose, one vector at a time, in every domain, asked with its own prompt and without.

Knows the lab's tasks, its vectors and configs/experiments/sweep.yaml. What is made of the rows is `findings`' business.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import load_validated
from steergraph.engine.activations.texts import plain_median_norms
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Completion, Engine, ScoreRequest
from steergraph.engine.steering.records import Unit
from steergraph.evals.lab.experiment import Answer, Arm, Item, dose_of, speak
from steergraph.evals.lab.ids import BASELINE, Cell, ItemId, Source, vector_name
from steergraph.evals.lab.tasks import Classifier, Prompt, Split, SweepTasks
from steergraph.sandbox.run import Sandbox
from steergraph.vectors.dose.measure import repetition
from steergraph.vectors.extract.contrast import NEUTRAL_SYSTEM, ContrastSet
from steergraph.vectors.extract.first_use import ensure_vectors
from steergraph.vectors.library import Library


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

    def need(self, domains: Sequence[str]) -> None:
        """Raise InputError where a domain is asked for that is none of `domains`."""
        for name in self.domains:
            if name not in domains:
                raise InputError(f"domains: {name!r} is none of {', '.join(domains)}")

    @model_validator(mode="after")
    def _known(self) -> "SweepSettings":
        for unit, given in ((unit, given) for units in self.doses.values() for unit, given in units.items()):
            if isinstance(given, dict) and (unit != "unit_vector" or "auto" not in given):
                raise ValueError(f"doses: {unit} is a list of alphas; only unit_vector may be {{auto: [...]}}")
            alphas = given["auto"] if isinstance(given, dict) else given
            if not alphas or len(set(alphas)) != len(alphas):
                raise ValueError(f"doses: {unit} has {'an alpha twice' if alphas else 'no alpha'}")
        return self


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
    return plain_median_norms(loaded)[loaded.info.n_layers // 2]


def make_vectors(loaded: LoadedModel, settings: SweepSettings, tasks: SweepTasks) -> Library:
    """Both sources' vectors for every domain of the sweep, from the cache or made now."""
    sets: list[str | ContrastSet] = list(settings.domains)
    if "prompts" in settings.doses and loaded.info.kind == "instruct":
        sets += [_prompt_set(domain, settings, tasks) for domain in settings.domains]
    return ensure_vectors(loaded, sets)


def _prompt_set(domain: str, settings: SweepSettings, tasks: SweepTasks) -> ContrastSet:
    systems: dict[str, str] = {}  # by question
    for system, question in islice(tasks.prompts(domain, settings.seed), 40 * settings.prompt_texts):
        systems[question] = system
        if len(systems) == 2 * settings.prompt_texts:
            break
    texts, half = list(systems), len(systems) // 2
    return ContrastSet(
        name=vector_name(domain, "prompts"),
        domain=domain,
        description=f"Questions under the system prompt of {domain}, others under a neutral one.",
        positives=tuple(texts[:half]),
        neutrals=tuple(texts[half:]),
        system=systems[texts[0]],
        neutral_system=NEUTRAL_SYSTEM,
    )


@dataclass(frozen=True)
class Sweep:
    """The experiment, over `cells` by domain; an `experiment.Experiment`."""

    plan: SweepSettings
    split: Split
    cells: Mapping[str, Sequence[Cell]]
    tasks: SweepTasks
    registers: Classifier
    sandbox: Sandbox

    @property
    def settings(self) -> Mapping[str, Any]:
        cells = {domain: list(map(str, cells)) for domain, cells in self.cells.items()}
        return {"experiment": "sweep", "split": self.split, "cells": cells, **self.plan.model_dump(mode="json")}

    def pairs(self) -> Iterator[tuple[Item, Arm]]:
        n = self.plan.select if self.split == "select" else self.plan.report
        for domain, cells in self.cells.items():
            arms = [Arm(name=BASELINE), *(cell.arm for cell in cells)]
            questions = self.tasks.questions(domain, self.split, self.plan.seed, n)
            for prompt in self.plan.prompts:
                for number, question in enumerate(questions):
                    item = Item(
                        id=str(ItemId(domain, prompt, self.split, number)),
                        messages=question.messages if prompt == "own" else question.messages[1:],
                        truth=question.truth,
                        max_new_tokens=question.max_new_tokens,
                    )
                    # An item's arms are neighbours: they share a prompt, so that a batch has rows of one length.
                    yield from ((item, arm) for arm in arms)

    def answer(self, engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Answer]:
        completions = speak(engine, batch)
        texts = [completion.text for completion in completions]
        names = [ItemId.parse(item.id) for item, _ in batch]
        registers = self.registers.tell(texts)
        grades = self.tasks.grade([item.truth for item, _ in batch], texts, self.sandbox)
        priced = [at for at, name in enumerate(names) if completions[at].token_ids and self._is_priced(name)]
        nats = dict(zip(priced, _nats(engine, [(batch[at][0], completions[at]) for at in priced]), strict=True))
        rows = []
        for at, ((item, arm), completion) in enumerate(zip(batch, completions, strict=True)):
            metrics = {
                "domain": float(registers[at] == names[at].domain),
                "accurate": grades[at],
                "repetition": repetition(completion.token_ids),
                **({"nats": nats[at]} if at in nats else {}),
            }
            dose = dose_of(completion.receipt)
            rows.append(Answer(item=item.id, arm=arm.name, text=completion.text, metrics=metrics, relative_dose=dose))
        return rows

    def _is_priced(self, item: ItemId) -> bool:
        """Whether an answer's perplexity is taken: of the many cells to choose from, on the first few items each."""
        return self.split == "report" or item.number < self.plan.perplexity_items


def _nats(engine: Engine, answers: Iterable[tuple[Item, Completion]]) -> list[float]:
    """What a token of each answer costs the unsteered model, in nats: the logarithm of its perplexity."""
    requests = [ScoreRequest(messages=item.messages, continuation=one.token_ids) for item, one in answers]
    return [-scores.total / len(scores.logprobs) for scores in engine.score(requests)]
