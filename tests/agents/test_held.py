"""Turns that are held to a grammar: edits of what was shown, answers on their marked line; and turns that can't be."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steergraph.agents.graph import build_graph
from steergraph.agents.run_config import Context
from steergraph.agents.speech.answers import answer_grammar, extract_answer
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Request, Sampling
from steergraph.engine.scripted import ScriptedEngine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TASK = {
    "problem": (EXAMPLES / "issues" / "stock.md").read_text(encoding="utf-8"),
    "repo": str(EXAMPLES / "pantry.bundle"),
}


@pytest.fixture(scope="module")
def pocket() -> Iterator[LocalEngine]:
    with LocalEngine("pocket") as engine:
        yield engine


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    own = tmp_path / "own.yaml"
    own.write_text(
        "edit_format: whole_function\nconstrained: true\nnumbered: false\n"
        "roster: {specialists: [{name: patch_writing, ask: '{edit_format}', max_new_tokens: 120}]}\n"
    )
    return own


def run(engine: Any, settings: Path, task: dict[str, Any], **context: Any) -> tuple[dict[str, Any], list[Any]]:
    graph = build_graph(engine=engine, settings=settings)
    events, values = [], {}
    given = {"preset": "rag_baseline", "max_repairs": 0, **context}
    for mode, chunk in graph.stream(task, context=Context(**given), stream_mode=["custom", "values"]):
        if mode == "custom":
            events.append(chunk)
        else:
            values = chunk
    return values, events


def test_an_edit_is_one_function_that_was_shown_and_no_copy(pocket: LocalEngine, settings: Path) -> None:
    values, events = run(pocket, settings, TASK, candidates=3)
    (start,) = [e for e in events if e["event"] == "step_start" and e["specialist"] == "patch_writing"]
    assert start["held_to"] == "whole_function" and "free" not in start
    answers = [step for step in values["steps"] if step["specialist"] == "patch_writing"]
    assert len(answers) == 3
    for answer in answers:
        assert answer["held_to"] == "whole_function"
        assert re.match(r"```python(?: pantry/\w+\.py)?\n(?:@.*\n)*[ ]*(?:def|class) \w+", answer["text"])
        assert answer["finish_reason"] == "length" or answer["text"].rstrip("\n").endswith("\n```")
    assert not any("nothing changes" in problem for event in events for problem in event.get("problems", ()))


def test_an_engine_without_grammars_is_told(settings: Path) -> None:
    values, events = run(ScriptedEngine(lambda request: "Nothing."), settings, TASK)
    (start,) = [e for e in events if e["event"] == "step_start" and e["specialist"] == "patch_writing"]
    assert start["free"] == "scripted can't be held to one" and "held_to" not in start
    assert values["steps"][-1]["held_to"] == ""


def test_without_a_file_in_the_prompt_there_is_no_grammar(pocket: LocalEngine, settings: Path) -> None:
    _, events = run(pocket, settings, TASK, retrieval="off")
    (start,) = [e for e in events if e["event"] == "step_start" and e["specialist"] == "patch_writing"]
    assert start["free"] == "no file was shown"


def test_an_answer_ends_on_its_marked_line(pocket: LocalEngine, settings: Path) -> None:
    question = {"problem": "Which is a fruit?", "choices": ["a stone", "an apple", "a spoon"]}
    values, events = run(pocket, settings, question)
    (start,) = [e for e in events if e["event"] == "step_start"]
    assert start["held_to"] == "answer"
    (read,) = [e for e in events if e["event"] == "answer"]
    assert read["how"] == "said" and read["answer"] in "ABC"
    assert re.search(r"\n#### [ABC]$", values["steps"][-1]["text"])


@pytest.mark.parametrize("most", [24, 60])
def test_the_line_comes_before_the_limit(pocket: LocalEngine, most: int) -> None:
    asked = (Message(role="user", content="Ann has 4 apples and gets 3. How many are there?"),)
    grammar = answer_grammar((), numeric=True)
    (said,) = pocket.generate([Request(messages=asked, grammar=grammar, sampling=Sampling(max_new_tokens=most))])
    found = extract_answer(said.text)
    assert found is not None and re.fullmatch(r"-?\d+(\.\d+)?", found) and "\n#### " in said.text


def test_an_answer_in_words_is_free() -> None:
    assert answer_grammar((), numeric=False) is None
