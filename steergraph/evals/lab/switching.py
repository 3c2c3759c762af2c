"""Does switching vectors from specialist to specialist help? The graph's own steps, arm by arm, on generated issues.

An arm is a preset of the policy: baseline, static and dynamic without context and with it (gate off, as published), and
`auto` (gate on). A turn is prepared, steered, guarded and written down by the graph's own functions; only the waiting
is batched, and the context is the case's own files instead of a search. All arms are scored alike, by the tasks' own
judge of the edited file. Knows the agents' turns.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from steergraph.agents.edits.drafts import drafted
from steergraph.agents.edits.formats import FormatName, edit_format
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.run_config import Context
from steergraph.agents.services import Services
from steergraph.agents.specialists import RETRIEVE, Specialist, resolve_steering
from steergraph.agents.speech.speak import step_of
from steergraph.agents.speech.turn import Turn, prepare, unsteered
from steergraph.agents.state import State, Step, Task
from steergraph.engine.protocol import Engine, Message
from steergraph.evals.lab.experiment import Answer, Arm, Item, dose_of
from steergraph.evals.lab.tasks import IssueCase, SwitchingTasks
from steergraph.sandbox.run import Sandbox

WITHOUT = ("baseline", "static", "dynamic")
WITH = ("rag_baseline", "rag_static", "rag_dynamic", "auto")


def spoken_with(services: Services) -> dict[str, Any]:
    """What decides how the steps of an issue are spoken, for a manifest: each specialist's own steering and the static
    one, and hashes of policy and roster."""
    policy, roster, engine = services.policy, services.roster, services.engine
    names = [one for one in roster.specialists if one.output != "answer"]

    def steering(one: Specialist, static: str | None) -> Any:
        found, _ = resolve_steering(one, engine.library, engine.info, static_domain=static)
        return found.model_dump(mode="json") if found else None

    return {
        "steering": {one.name: steering(one, None) for one in names},
        "static": steering(names[0], policy.static_domain),
        "policy": sha256(policy.model_dump_json().encode()).hexdigest()[:16],
        "roster": sha256(roster.model_dump_json().encode()).hexdigest()[:16],
    }


def begun(problem: str) -> tuple[Task, State]:
    """An issue as a task, and the graph's state before anybody has spoken of it."""
    task = Task(kind="issue", problem=problem, repo="generated", base_commit="0" * 40)
    return task, {
        "task": task.model_dump(mode="json"),
        "cluster": None,
        "attempt": 0,
        "feedback": "",
        "notes": [],
    }


def edited(case: IssueCase, answer: str, form: FormatName = "search_replace") -> str | None:
    """The case's target file after the answer's edits, made as the graph makes them; None where they can't be, or
    change another file. A path has to be written out: the paths that there are complete none."""
    shown = Shown((), {path: [(1, text.count("\n") + 1)] for path, text in case.files.items()}, case.files.get)
    files = drafted(answer, edit_format(form), shown).files
    return files[case.target] if set(files) == {case.target} else None


@dataclass
class _Run:
    """One case under one preset, as far as it has come."""

    case: IssueCase
    context: Context
    state: State
    steps: list[Step] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Switching:
    """The experiment over `cases`; an `experiment.Experiment`."""

    tasks: SwitchingTasks
    cases: Sequence[IssueCase]
    services: Services
    sandbox: Sandbox
    seed: int
    presets: tuple[str, ...] = WITHOUT + WITH

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "experiment": "switching",
            "seed": self.seed,
            "n": len(self.cases),
            "presets": list(self.presets),
            **spoken_with(self.services),
        }

    def pairs(self) -> Iterator[tuple[Item, Arm]]:
        for case in self.cases:
            item = Item(case.id, (Message(role="user", content=case.quoted),), case)
            yield from ((item, Arm(name=preset)) for preset in self.presets)

    def answer(self, engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Answer]:
        runs = [self._begin(item.truth, arm.name) for item, arm in batch]
        while waiting := [run for run in runs if run.state["cursor"] < len(run.state["plan"])]:
            self._step(engine, waiting)
        texts = [run.steps[-1].text for run in runs]
        form = self.services.settings.edit_format
        files = [edited(run.case, text, form) for run, text in zip(runs, texts, strict=True)]
        repaired = self.tasks.repaired([run.case for run in runs], files, self.sandbox)
        return [
            Answer(
                item=item.id,
                arm=arm.name,
                text=text,
                metrics={
                    "repaired": float(right),
                    "applies": float(file is not None),
                    "suspect": float(self._suspect(run)),
                    "steered_steps": float(sum(dose_of(step.receipt) > 0 for step in run.steps)),
                    "refused": float(sum(step.guard is not None for step in run.steps)),
                },
                relative_dose=max(dose_of(step.receipt) for step in run.steps),
            )
            for (item, arm), run, text, file, right in zip(batch, runs, texts, files, repaired, strict=True)
        ]

    def _begin(self, case: IssueCase, preset: str) -> _Run:
        context = Context(preset=preset)
        retrieval = context.axes(self.services.policy).retrieval
        task, state = begun(case.quoted)
        plan = self.services.router(task, self.services.roster, retrieval=retrieval).plan
        return _Run(case, context, {**state, "plan": list(plan), "cursor": 0, "retrieval": None})

    def _step(self, engine: Engine, runs: Sequence[_Run]) -> None:
        """One step of each run: a retrieval is given, the specialists speak together."""
        speaking: list[tuple[_Run, Turn]] = []
        for run in runs:
            name = run.state["plan"][run.state["cursor"]]
            run.state["cursor"] += 1
            if name == RETRIEVE:
                run.state["retrieval"] = {"passages": list(map(dict, run.case.passages))}
            else:
                speaking.append((run, prepare(self.services, name, run.state, run.context)))
        while speaking:
            completions = engine.generate([turn.request for _, turn in speaking])
            again = []
            for (run, turn), completion in zip(speaking, completions, strict=True):
                step = step_of(self.services, turn, completion, 0.0)
                run.steps.append(step)
                other = unsteered(turn, step) if step.guard else None
                if other is not None:
                    again.append((run, other))
                elif turn.specialist.output == "text" and not step.echo:
                    run.state["notes"] = [*run.state["notes"], {"specialist": step.specialist, "text": step.text}]
            speaking = again

    def _suspect(self, run: _Run) -> bool:
        """Whether bug_analysis names the function that is wrong."""
        analyses = [step.text for step in run.steps if step.specialist == "bug_analysis" and step.guard is None]
        function = run.case.function
        return any(f"`{name}`" in text for text in analyses for name in (function, function.split(".")[-1]))
