"""Several edits drawn at once: what is sampled, what counts once, which wins, and what a repair is told."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.edits.drafts import drafted, in_order
from steergraph.agents.edits.formats import edit_format
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.graph import build_graph
from steergraph.agents.run_config import Context
from steergraph.engine.protocol import Request
from steergraph.engine.scripted import ScriptedEngine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ISSUE = (EXAMPLES / "issues" / "stock.md").read_text(encoding="utf-8")
TASK = {"problem": ISSUE, "repo": str(EXAMPLES / "pantry.bundle")}
TEST = "python -m unittest tests.test_stock"


def function(body: str) -> str:
    return f"```python\ndef low_items(stock, limit):\n{body}\n```"


WRONG = function("    return []")
ALSO_WRONG = function("    # nothing\n    return []  # at all")
RIGHT = function("    return sorted(name for name, amount in stock.items() if amount <= limit)")
BROKEN = function("    return [")


class Draws:
    """A model whose answers to the patch writer come in this order; a note otherwise."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> str:
        if "corrected, and no other" not in request.messages[-1].content:
            return "The cause is `low_items`."
        self.asked.append(request)
        return self.answers[(len(self.asked) - 1) % len(self.answers)]


def run(draws: Draws, tmp_path: Path, **context: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    own = tmp_path / "own.yaml"
    own.write_text(
        "edit_format: whole_function\nnumbered: false\n"
        "roster: {specialists: [{name: patch_writing, ask: '{edit_format}', frames: {issue: '{text}'}}]}\n"
    )
    graph = build_graph(engine=ScriptedEngine(draws), settings=own)
    events: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for mode, chunk in graph.stream(TASK, context=Context(**context), stream_mode=["custom", "values"]):
        if mode == "custom":
            events.append(chunk)
        else:
            values = chunk
    return values, events


def test_the_first_that_passes_wins_and_equals_are_checked_once(tmp_path: Path, sandbox_context: Any) -> None:
    draws = Draws(WRONG, BROKEN, ALSO_WRONG, RIGHT, WRONG, RIGHT)
    context = sandbox_context(TEST).model_dump() | {"candidates": 6, "max_repairs": 0}
    values, events = run(draws, tmp_path, **context)
    assert values["status"] == "patched" and "amount <= limit" in values["patch"]
    temperatures = [request.sampling.temperature for request in draws.asked]
    assert temperatures[0] == 0 and all(t > 0 for t in temperatures[1:])
    assert len({request.seed for request in draws.asked}) == 6
    checks = [event for event in events if event["event"] == "check"]
    assert [check["ok"] for check in checks] == [False, True]  # three that return [], said in two ways, are one
    assert [step["candidate"] for step in values["steps"] if step["specialist"] == "patch_writing"] == [*range(6)]
    assert sum(event["event"] == "edit" for event in events) == 6


def test_without_a_test_the_one_drawn_most_often_wins(tmp_path: Path) -> None:
    values, _ = run(Draws(WRONG, RIGHT, RIGHT), tmp_path, candidates=3, max_repairs=0)
    assert values["status"] == "patched_untested" and "amount <= limit" in values["patch"]


def test_a_repair_goes_on_from_what_came_farthest(tmp_path: Path, sandbox_context: Any) -> None:
    draws = Draws(BROKEN, WRONG, RIGHT, RIGHT)
    context = sandbox_context(TEST).model_dump() | {"candidates": 2, "max_repairs": 1}
    values, _ = run(draws, tmp_path, **context)
    assert values["status"] == "patched"
    told = draws.asked[2].messages[-1].content
    assert "AssertionError" in told and "can't be read" not in told


def test_async_draws_the_same(tmp_path: Path) -> None:
    graph = build_graph(engine=ScriptedEngine(Draws("I can't see it.")))
    values = asyncio.run(graph.ainvoke(TASK, context=Context(candidates=3, max_repairs=0)))
    assert values["status"] == "no_edit"
    assert [step["candidate"] for step in values["steps"] if step["specialist"] == "patch_writing"] == [0, 1, 2]


def test_what_changes_only_comments_comes_last() -> None:
    source = "def f():\n    return 0\n"
    shown = Shown(["a.py"], {"a.py": [(1, 2)]}, {"a.py": source}.get)
    block = "a.py\n<<<<<<< SEARCH\n    return 0\n=======\n{}\n>>>>>>> REPLACE"
    bodies = ["    return 0  # one", "    return 0  # two", "    return 2"]
    drafts = [drafted(block.format(body), edit_format("search_replace"), shown) for body in bodies]
    assert [(draft.drawn, draft.diff and "return 2" in draft.diff) for draft in in_order(drafts, shown.read)] == [
        (1, True),
        (2, False),
    ]


def test_candidates_share_the_tokens_that_are_left(tmp_path: Path) -> None:
    draws = Draws("I can't see it.")
    run(draws, tmp_path, candidates=4, max_repairs=0, max_tokens=200)
    bounds = [request.sampling.max_new_tokens for request in draws.asked]
    assert len(bounds) == 4 and len({*bounds}) == 1 and 4 * bounds[0] <= 200


def test_equals_among_candidates_are_no_repeated_attempt(tmp_path: Path, sandbox_context: Any) -> None:
    draws = Draws(WRONG, WRONG, RIGHT, RIGHT)
    context = sandbox_context(TEST).model_dump() | {"candidates": 2, "max_repairs": 1}
    values, _ = run(draws, tmp_path, **context)
    assert values["status"] == "patched"
    assert "AssertionError" in draws.asked[2].messages[-1].content  # a repeated attempt would be told nothing


@pytest.mark.parametrize("how", ["sync", "async"])
def test_once_more_unsteered_where_the_guard_refuses_all(how: str) -> None:
    vectors: Any = dict.fromkeys(("bug_analysis", "test_reasoning", "code_reading", "patch_writing"))
    engine = ScriptedEngine(lambda request: "I see." if request.steering is None else "go " * 60, library=vectors)
    graph = build_graph(engine=engine)
    context = Context(candidates=3, max_repairs=0, retrieval="off")
    values = graph.invoke(TASK, context=context) if how == "sync" else asyncio.run(graph.ainvoke(TASK, context=context))
    steps = [step for step in values["steps"] if step["specialist"] == "patch_writing"]
    assert [(step["candidate"], bool(step["guard"])) for step in steps] == [(0, True), (1, True), (2, True), (0, False)]
    assert steps[-1]["decision"]["rule"] == "guard" and steps[-1]["text"] == "I see."


@given(st.lists(st.sampled_from(["    return 1", "    return 1  # one", "    return 2", "    return ("]), max_size=8))
def test_order_is_by_count_then_by_draw(bodies: list[str]) -> None:
    source = "def f():\n    return 0\n"
    shown = Shown(["a.py"], {"a.py": [(1, 2)]}, lambda path: source if path == "a.py" else None)
    form = edit_format("whole_function")
    drafts = [drafted(f"```\ndef f():\n{body}\n```", form, shown) for body in bodies]
    kinds = [body.split("#")[0].strip() for body in bodies if not body.endswith("(")]
    ordered = in_order(drafts, shown.read)
    assert sum(draft.drawn for draft in ordered) == len(kinds)
    assert [draft.drawn for draft in ordered] == sorted((kinds.count(kind) for kind in {*kinds}), reverse=True)


def test_a_plain_server_is_not_asked_for_what_it_does_not_know(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("repetition_penalty: 1.2\n")
    engine = ScriptedEngine(Draws("I can't see it."))
    engine.server = SimpleNamespace(extends=False)  # type: ignore[attr-defined]
    graph = build_graph(engine=engine, settings=own)
    context = Context(candidates=2, max_repairs=0)
    starts = [event for event in graph.stream(TASK, context=context, stream_mode="custom") if "candidates" in event]
    assert [start["left_out"] for start in starts] == ["repetition_penalty"]
    assert all(request.sampling.repetition_penalty == 1 for request in engine.requests)
