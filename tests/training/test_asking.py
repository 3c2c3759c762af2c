"""The measurement of how a model is asked for edits: the graph's own requests, and what answers amount to."""

import argparse
from pathlib import Path

import pytest

from steergraph.agents.driving import services_of
from steergraph.agents.run_config import RunConfig
from steergraph.engine.protocol import Request
from steergraph.engine.scripted import ScriptedEngine
from steergraph.sandbox.run import Sandbox
from training.asking import Asked, among, measure, repairs, requests_for, shown_of


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "page.yaml"
    path.write_text("edit_format: whole_function\nnumbered: false\ntemperatures: [0.5, 0.7]\n")
    return str(path)


def test_what_answers_amount_to(sandbox: Sandbox, page: str) -> None:
    """Of three answers to a repair the first copies the function, the second corrects it, the third says nothing."""
    drawn = repairs(2, 5)
    answers = []
    for sample in drawn:
        assert sample.scene is not None
        passage = sample.scene.passages[sample.scene.target]
        copied, corrected = "\n".join(passage.lines), "\n".join(sample.scene.fixed)
        answers += [f"```python\n{copied}\n```", f"```python\n{corrected}\n```", "I can't."]
    left = iter(answers)
    engine = ScriptedEngine(lambda request: next(left))
    found = measure(
        engine, sandbox, argparse.Namespace(model="scripted", settings=page, n=2, seed=5, samples=2, among=0)
    )
    assert found["any"][0] == found["chosen"][0] == 1 and found["greedy"][0] == 0
    assert found["repaired"][0] == found["applies"][0] == found["copies"][0] == pytest.approx(1 / 3, abs=1e-3)
    assert found["settings"]["edit_format"] == "whole_function"


def test_requests_are_the_graphs_own(page: str) -> None:
    engine = ScriptedEngine(lambda request: "")
    services = services_of(RunConfig(model="scripted", settings=page), engine)
    (sample,) = repairs(1, 5)
    first, *others = requests_for(services, Asked(sample), 3, 9)
    assert isinstance(first, Request) and first.sampling.temperature == 0 and first.seed == 9
    assert [one.sampling.temperature for one in others] == [0.5, 0.7, 0.5]
    assert len({one.seed for one in (first, *others)}) == 4 and len({one.messages for one in (first, *others)}) == 1
    assert first.messages and sample.sections["issue"] in first.messages[-1].content


def test_other_repairs_stand_behind_as_long_as_there_is_room() -> None:
    engine = ScriptedEngine(lambda request: "")
    sample, *pool = repairs(8, 5)
    (alone,), (some,), (more,) = (among([sample], pool, tokens, engine) for tokens in (0, 300, 3000))
    assert alone.others == () and len(some.others) <= len(more.others) and more.others
    assert more.context.startswith(sample.sections["context"])
    assert set(shown_of(alone).paths) < set(shown_of(more).paths)
