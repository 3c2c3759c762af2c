"""Do the suspects that specialists name help retrieval? The rank of the file to change, with and without them.

The arms: the issue alone; with the suspects of unsteered specialists; of specialists with one static vector; of each
with its own. The turns and the search are the graph's own. Knows cases, the agents' turns and the retriever.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from git import Actor, Repo

from steergraph.agents.run_config import Context
from steergraph.agents.services import Services
from steergraph.agents.specialists import RETRIEVE
from steergraph.agents.speech.turn import prepare, suspects
from steergraph.engine.protocol import Engine, Message
from steergraph.evals.lab.experiment import Answer, Arm, Item, dose_of
from steergraph.evals.lab.switching import begun, spoken_with
from steergraph.evals.lab.tasks import IssueCase
from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import BM25Retriever

ALONE = "issue alone"
PRESETS = {"unsteered suspects": "baseline", "static suspects": "static", "dynamic suspects": "dynamic"}
_WHEN = "2020-01-01T00:00:00+0000"
_MISSED = 21
"""The rank that is written down for a file that is not among the best 20."""


@dataclass(frozen=True)
class Suspects:
    """The experiment over `cases`, whose files are in `repository`; an `experiment.Experiment`."""

    cases: Sequence[IssueCase]
    targets: Mapping[str, str]
    repository: Repository
    retriever: BM25Retriever
    services: Services
    seed: int

    @property
    def settings(self) -> Mapping[str, Any]:
        spoken = spoken_with(self.services)
        return {"experiment": "suspects", "seed": self.seed, "n": len(self.cases), **spoken}

    def pairs(self) -> Iterator[tuple[Item, Arm]]:
        for case in self.cases:
            item = Item(case.id, (Message(role="user", content=case.issue),), case)
            yield from ((item, Arm(name=arm)) for arm in (ALONE, *PRESETS))

    def answer(self, engine: Engine, batch: Sequence[tuple[Item, Arm]]) -> list[Answer]:
        turns = []
        for at, (item, arm) in enumerate(batch):
            if arm.name != ALONE:
                _, state = begun(item.truth.issue)
                context = Context(preset=PRESETS[arm.name])
                turns += [(at, prepare(self.services, name, state, context)) for name in self._before_retrieval()]
        completions = engine.generate([turn.request for _, turn in turns])
        notes: dict[int, list[dict[str, str]]] = {}
        doses: dict[int, float] = {}
        for (at, _), completion in zip(turns, completions, strict=True):
            notes.setdefault(at, []).append({"text": completion.text})
            doses[at] = max(doses.get(at, 0.0), dose_of(completion.receipt))
        return [
            self._row(item, arm, suspects(notes.get(at, [])), doses.get(at, 0.0))
            for at, (item, arm) in enumerate(batch)
        ]

    def _before_retrieval(self) -> list[str]:
        plan = self.services.roster.plans["issue_with_retrieval"]
        return list(plan[: plan.index(RETRIEVE)])

    def _row(self, item: Item, arm: Arm, named: Sequence[str], dose: float) -> Answer:
        case: IssueCase = item.truth
        found = self.retriever.search(self.repository, "HEAD", case.issue, named)
        paths = [one.path for one in found.ranked]
        target = self.targets[case.id]
        rank = paths.index(target) + 1 if target in paths else _MISSED
        metrics = {"first": float(rank == 1), "in_five": float(rank <= 5), "rank": float(rank)}
        metrics["names"] = float(len(named))
        words = set(re.findall(r"\w+", " ".join(named)))
        metrics["right_name"] = float(case.function.split(".")[-1] in words)
        return Answer(item=item.id, arm=arm.name, text="\n".join(named), metrics=metrics, relative_dose=dose)


def write_repository(cases: Sequence[IssueCase], folder: Path) -> dict[str, str]:
    """All cases' files in one git repository of one commit in the empty `folder`; each case's target path by id.

    Each case has a folder of its own there, so that no two files have one path. The same cases give the same commit.
    No hook is run.
    """
    for number, case in enumerate(cases):
        for path, text in case.files.items():
            file = folder / _place(number, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    with Repo.init(folder, initial_branch="main") as repository:
        repository.git.add("--all", "--force")
        author = Actor("steergraph", "steergraph@example.invalid")
        repository.index.commit(
            "cases", author=author, committer=author, author_date=_WHEN, commit_date=_WHEN, skip_hooks=True
        )
    return {case.id: _place(number, case.target) for number, case in enumerate(cases)}


def _place(number: int, path: str) -> str:
    return f"part_{number:03d}/{path}"
