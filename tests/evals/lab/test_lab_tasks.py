"""Tasks as objects, and the names of a sweep's items."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.engine.protocol import Message
from steergraph.evals.lab.ids import BASELINE, ItemId
from steergraph.evals.lab.sweep import Sweep, SweepSettings, grid
from steergraph.evals.lab.tasks import Question, SweepTasks, SwitchingTasks, load_tasks
from steergraph.sandbox.run import Sandbox
from training.tasks import POCKET

OWN = (Message(role="system", content="You cook."), Message(role="user", content="What is for lunch?"))


class Cooking:
    domains = ("cooking",)

    def questions(self, domain: str, split: str, seed: int, n: int) -> list[Question]:
        return [Question(OWN, f"{domain} {split} {seed} {at}") for at in range(n)]

    def grade(self, truths: Any, texts: Any, sandbox: Any) -> list[float]:
        return [float(truth == text) for truth, text in zip(truths, texts, strict=True)]

    def prompts(self, domain: str, seed: int) -> list[tuple[str, str]]:
        return []

    def classifier(self) -> Any:
        return SimpleNamespace(tell=lambda texts: ["cooking" for _ in texts])

    def spoken(self) -> list[tuple[str, str]]:
        return []


@given(domain=st.text(min_size=1, max_size=12), number=st.integers(0, 10**6))
def test_an_items_name_is_read_back(domain: str, number: int) -> None:
    item = ItemId(domain, "open", "report", number)
    assert ItemId.parse(str(item)) == item


@pytest.mark.parametrize(
    "text", ["", "law", "law/own/select", "law/own/select/x", "law/mine/select/1", "law/own/any/1"]
)
def test_any_other_name_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no item of a sweep"):
        ItemId.parse(text)


def test_a_sweep_asks_what_its_tasks_say_under_both_prompts() -> None:
    plan = SweepSettings.load().model_copy(update={"domains": ("cooking",), "select": 2})
    cells = {"cooking": grid(plan, "cooking", 3, 10.0)[:1]}
    tasks = Cooking()
    sweep = Sweep(plan, "select", cells, tasks, tasks.classifier(), Sandbox.detect(unsafe=True))
    pairs = list(sweep.pairs())
    assert [(item.id, arm.name) for item, arm in pairs][:3] == [
        ("cooking/own/select/0", BASELINE),
        ("cooking/own/select/0", "contrast/unit_vector/1/layer 0"),
        ("cooking/own/select/1", BASELINE),
    ]
    assert {item.messages for item, _ in pairs[:4]} == {OWN}
    assert {item.messages for item, _ in pairs[4:]} == {OWN[1:]}
    assert pairs[4][0].truth == "cooking select 4242 0"


def test_tasks_are_found_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_tasks("training.tasks:POCKET", SweepTasks, "sweep") is POCKET  # type: ignore[type-abstract]
    assert load_tasks("training.tasks:POCKET", SwitchingTasks, "switching") is POCKET  # type: ignore[type-abstract]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_tasks.py").write_text("from training.tasks.pocket import PocketTasks\nMINE = PocketTasks()\n")
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    assert load_tasks("own_tasks:MINE", SweepTasks, "sweep").domains == POCKET.domains  # type: ignore[type-abstract]
    for name, problem in (
        (None, "needs --tasks MODULE:NAME"),
        (":POCKET", "not MODULE:NAME"),
        ("own_tasks:PocketTasks", "it is a class"),
        ("broken_tasks:MINE", "division by zero"),
        ("own_tasks:YOURS", "YOURS"),
        ("training.tasks.questions:chance", "lacks domains, questions"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            load_tasks(name, SweepTasks, "sweep")  # type: ignore[type-abstract]
        assert len(str(caught.value).splitlines()) == 1
