"""Whether a step speaks steered: a table of rules read from configs/policy.yaml, first match wins.

Knows situations and decisions. Knows nothing of prompts, of the graph or of how steering is carried out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.configs import load_config, load_yaml, validated
from steergraph.configs.overlay import overlaid
from steergraph.engine.steering.records import Steering

_GRAM, _MIN_WORDS = 4, 24

RouterName = Literal["rules", "model", "activation"]
Axis = Literal["none", "static", "dynamic"]
Mode = Literal["on", "off", "outside_spans"]


class Situation(Frozen):
    """What the policy looks at."""

    steering: Steering | None
    """The steering the specialist would speak with; None where the engine has no vector for it."""
    axis: Axis = "dynamic"
    gate: bool = True
    context: bool = False
    """Retrieved passages are in the prompt."""
    n_examples: int = 0
    thinking: bool = False
    machine_read: bool = False
    model_kind: Literal["instruct", "base"] = "instruct"
    evidence: str = ""
    """What is known of the steering's cell."""


class Decision(Frozen):
    """What the policy answers."""

    mode: Mode
    steering: Steering | None
    """What to switch on; None exactly where mode is `off`."""
    rule: str
    reason: str
    evidence: str


class When(Frozen):
    """Conditions; None is no condition."""

    axis: Axis | None = None
    gate: bool | None = None
    vector: bool | None = None
    context: bool | None = None
    min_examples: int | None = None
    thinking: bool | None = None
    machine_read: bool | None = None


class Rule(Frozen):
    name: str
    when: When
    then: Literal["on", "off", "outside_spans", "by_examples"]
    gated: bool = True
    reason: str
    evidence: str

    def matches(self, situation: Situation) -> bool:
        facts = {
            "axis": situation.axis,
            "gate": situation.gate,
            "vector": situation.steering is not None,
            "context": situation.context,
            "thinking": situation.thinking,
            "machine_read": situation.machine_read,
        }
        wanted = self.when.model_dump(exclude_none=True)
        if situation.n_examples < wanted.pop("min_examples", 0):
            return False
        return all(facts[key] == value for key, value in wanted.items()) and (situation.gate or not self.gated)


class Axes(Frozen):
    """The three axes of an ablation."""

    steering: Axis
    retrieval: bool
    gate: bool


class Guard(Frozen):
    """When a steered answer is refused: empty, repeating itself, or nothing that the model itself would say."""

    max_repetition: float
    min_characters: int
    max_regret: float | None = None
    """Nats a token by which the unsteered model would rather have said something else (`Scores.regret`); None: not
    asked."""

    def refusal(self, text: str, regret: float | None = None) -> str | None:
        """Why a steered answer should be spoken again with steering off, or None where it stands."""
        if len(text.strip()) < self.min_characters:
            return "empty text"
        share = repetition(text)
        if share > self.max_repetition:
            return f"repetition ({share:.0%} of its 4-grams occurred before)"
        if regret is not None and self.max_regret is not None and regret > self.max_regret:
            return (
                f"the unsteered model would rather have said something else, by {regret:.2f} nats a token "
                f"(at most {self.max_regret:g})"
            )
        return None


class Repair(Frozen):
    max: int = Field(ge=0)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    repeat_temperature: float = Field(default=0.0, ge=0)
    """Added for every attempt so far that repeated an earlier one."""
    max_temperature: float = 2.0

    def temperature_after(self, repeats: int) -> float:
        """Of an attempt after `repeats` attempts that repeated an earlier one."""
        return max(self.temperature, min(self.temperature + repeats * self.repeat_temperature, self.max_temperature))


class Policy(Frozen):
    """The whole of policy.yaml, validated."""

    rules: tuple[Rule, ...]
    alpha_by_examples: dict[Literal["instruct", "base"], dict[int, float]]
    static_domain: str
    presets: dict[str, Axes]
    guard: Guard
    repair: Repair

    @classmethod
    def load(cls, path: str | Path | None = None, of_model: Mapping[str, Any] | None = None) -> "Policy":
        """The packaged policy, or that with a user's file laid over it: rules by name, new ones before the packaged;
        presets and the rest by key (`configs.overlay`). `of_model` is what a model's settings say of the policy; it
        lies below the user's file.

        Raises:
            ConfigError: the file is not a policy.
        """
        table = load_config("policy")
        if of_model:
            table = overlaid(table, of_model, "the model's settings: policy", first=("rules",))
        if path is not None:
            table = overlaid(table, load_yaml(path), str(path), first=("rules",))
        return validated(cls, table, str(path or "configs/policy.yaml"))

    def axes(
        self,
        preset: str = "auto",
        steering: Axis | None = None,
        retrieval: bool | None = None,
        gate: bool | None = None,
    ) -> Axes:
        """A preset's axes, with those given by name replacing its own.

        Raises:
            InputError: there is no such preset.
        """
        if preset not in self.presets:
            raise InputError(f"no preset called {preset!r}; there are {', '.join(self.presets)}")
        base = self.presets[preset]
        return Axes(
            steering=base.steering if steering is None else steering,
            retrieval=base.retrieval if retrieval is None else retrieval,
            gate=base.gate if gate is None else gate,
        )

    def decide(self, situation: Situation) -> Decision:
        """The first rule that matches. A table without a rule that matches everything answers off, rule `no_rule`."""
        for rule in self.rules:
            if rule.matches(situation):
                return self._apply(rule, situation)
        return Decision(
            mode="off", steering=None, rule="no_rule", reason="no rule of the policy matches", evidence="none"
        )

    def _apply(self, rule: Rule, situation: Situation) -> Decision:
        mode: Mode
        steering = situation.steering
        reason = rule.reason
        if rule.then == "by_examples":
            factor = self._examples_factor(situation)
            mode = "on" if factor else "off"
            steering = scaled(steering, factor) if steering and factor else None
            reason = f"{rule.reason} (alpha x {factor:g})"
        else:
            mode = rule.then
        if steering is None or mode == "off":
            return Decision(mode="off", steering=None, rule=rule.name, reason=reason, evidence=rule.evidence)
        evidence = situation.evidence if rule.name == "own_cell" and situation.evidence else rule.evidence
        return Decision(mode=mode, steering=steering, rule=rule.name, reason=reason, evidence=evidence)

    def _examples_factor(self, situation: Situation) -> float:
        table = self.alpha_by_examples.get(situation.model_kind, {})
        reached = [n for n in table if n <= situation.n_examples]
        return table[max(reached)] if reached else 1.0


def scaled(steering: Steering, factor: float) -> Steering:
    """The same steering at `factor` times its dose."""
    return Steering(components=tuple(c.model_copy(update={"alpha": c.alpha * factor}) for c in steering.components))


def repetition(text: str) -> float:
    """Share of the answer's 4-grams of words that occurred before in it; 0.0 for fewer than 24 words."""
    words = text.split()
    if len(words) < _MIN_WORDS:
        return 0.0
    grams = [tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def describe(decision: Mapping[str, Any]) -> str:
    """One line: the vector, layer and dose, or that steering is off."""
    if decision["mode"] == "off":
        return "steering off"
    parts = [
        f"{c['vector']} @ layer {c['layer']}, alpha {c['alpha']:g} {c['unit'].replace('_', ' ')}, {c['positions']}"
        for c in decision["steering"]["components"]
    ]
    outside = " outside edit blocks" if decision["mode"] == "outside_spans" else ""
    return f"steering on{outside}: {' + '.join(parts)}"
