"""The roster: who can speak, with which prompt, which vector and which plan.

Knows configs/specialists.yaml and a user's own file in the same shape. Knows nothing of models: a specialist's steering
is resolved against an engine's library by `resolve_steering`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from steergraph.agents.edits.formats import FormatName, edit_format
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import ConfigError, load_config, load_yaml, validated
from steergraph.configs.overlay import overlaid
from steergraph.configs.prompts import fill_system, format_sections
from steergraph.engine.protocol import Message, ModelInfo, Named, Span
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.dose.cells import Evidence, cell_of

Section = Literal["issue", "context", "notes", "feedback", "question", "examples"]
RETRIEVE = "retrieve"
FIXED_NODES = frozenset({"route", RETRIEVE, "edit", "check", "answer", "finish"})
"""Names of the graph's other nodes, which no specialist can have."""


class Specialist(Frozen):
    """One voice of the roster."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    domain: str
    """The steering vector's name in the library."""
    system: str
    """System prompt; "" for none. `{edit_format}` is filled with the edit format's instructions, here and in `ask`."""
    reads: tuple[Section, ...]
    output: Literal["text", "edits", "answer"]
    frames: dict[str, str] = Field(default_factory=dict)
    """How sections stand in the prompt, where it is not as `sections` says."""
    ask: str = ""
    """The end of the user message."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    max_new_tokens: int = Field(default=128, ge=1)
    steering: Steering | None = None
    """A fixed steering instead of the model's best cell for `domain`."""
    contrast: str | None = None
    """Path of a contrast set that `domain`'s vector is made from on first use; None: the packaged set of that name."""

    edit_format: FormatName = "search_replace"
    """The model's settings say it."""

    def messages(self, sections: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt: the system message, then the non-empty sections this specialist reads, and what it is asked."""
        user = format_sections(self.reads, sections, self.frames)
        if self.ask:
            user = "\n\n".join(part for part in (user, fill_system(self.ask, self.edit_format)) if part)
        system = fill_system(self.system, self.edit_format)
        first = (Message(role="system", content=system),) if system else ()
        return (*first, Message(role="user", content=user))

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it speaks with: its domain's, or those of its fixed steering."""
        return tuple(c.vector for c in self.steering.components) if self.steering else (self.domain,)

    @property
    def machine_read(self) -> bool:
        return self.output == "edits"

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where a program reads this specialist's output."""
        return edit_format(self.edit_format).spans if self.machine_read else ()


class Roster(Frozen):
    """The specialists and the order in which they speak."""

    specialists: tuple[Specialist, ...]
    plans: dict[str, tuple[str, ...]]
    reasoning_words: dict[str, tuple[str, ...]]

    @classmethod
    def load(cls, path: str | Path | None = None, of_model: Mapping[str, Any] | None = None) -> "Roster":
        """The packaged roster, or that with a user's file laid over it: specialists by name, plans and
        reasoning words by key (`configs.overlay`). A relative `contrast` path is taken from the file's folder.

        `of_model` is what a model's settings say of the roster; it lies below the user's file.

        Raises:
            ConfigError: the file is not a roster, or a plan names somebody who is not on it.
        """
        table: dict[str, Any] = {k: v for k, v in load_config("specialists").items() if k != "sections"}
        where = str(path or "configs/specialists.yaml")
        if of_model:
            table = overlaid(table, of_model, "the model's settings: roster")
        if path is not None:
            own = load_yaml(path)
            entries = own.get("specialists") if isinstance(own, Mapping) else None
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict) and isinstance(entry.get("contrast"), str):
                    entry["contrast"] = str((Path(path).parent / entry["contrast"]).resolve())
            table = overlaid(table, own, where)
        roster = validated(cls, table, where)
        answering = {s.name for s in roster.specialists if s.output == "answer"}
        for name in roster.reasoning_words.keys() - answering:
            raise ConfigError(f"{where}: reasoning_words names {name!r}, who is no specialist with output: answer")
        for name in set(roster.names) & FIXED_NODES:
            raise ConfigError(f"{where}: no specialist can be called {name!r}: the graph has a node of that name")
        for plan, steps in roster.plans.items():
            unknown = set(steps) - {*roster.names, RETRIEVE, "DOMAIN"}
            if unknown:
                raise ConfigError(f"{where}: plans.{plan} names {sorted(unknown)[0]!r}, who is not on the roster")
        return roster

    def __getitem__(self, name: str) -> Specialist:
        for specialist in self.specialists:
            if specialist.name == name:
                return specialist
        raise InputError(f"no specialist called {name!r}; the roster has {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of every specialist, in the roster's order."""
        return tuple(specialist.name for specialist in self.specialists)

    @property
    def contrast_sets(self) -> dict[str, str]:
        """Paths of the roster's own contrast sets, by domain."""
        return {s.domain: s.contrast for s in self.specialists if s.contrast}

    def check(self, info: ModelInfo) -> None:
        """Raise InputError where a fixed steering names a layer that the model does not have."""
        for specialist in self.specialists:
            for component in specialist.steering.components if specialist.steering else ():
                if component.layer >= info.n_layers:
                    raise InputError(
                        f"{specialist.name}: layer {component.layer} is out of range: {info.name} has layers 0 to "
                        f"{info.n_layers - 1}"
                    )


def resolve_steering(
    specialist: Specialist,
    library: Named,
    info: ModelInfo,
    *,
    cluster: str | None = None,
    static_domain: str | None = None,
) -> tuple[Steering | None, Evidence | None]:
    """The steering `specialist` would speak with, and what is known of it; (None, None) where there is no vector.

    A cluster's vector comes before the domain's where the library has one: `cluster/domain` first, then `cluster`.
    With `static_domain` every specialist gets that domain's vector (the static arm).
    """
    if specialist.steering is not None and static_domain is None:
        return specialist.steering, None
    domain = static_domain or specialist.domain
    names = [f"{cluster}/{domain}", cluster, domain] if cluster else [domain]
    for name in names:
        if name in library:
            cell = cell_of(info, domain if name == f"{cluster}/{domain}" else name, library[name])
            component = Component(
                vector=name, layer=cell.layer, alpha=cell.alpha, unit=cell.unit, positions=cell.positions
            )
            return Steering(components=(component,)), cell.evidence
    return None, None
