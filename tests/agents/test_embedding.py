"""The graph inside other people's Python: a parent with a state of its own, its checkpointer, its interrupts; async."""

import asyncio
import importlib.util
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from langgraph.types import Command
from test_graph import TASK, speaks
from tiny_models import tiny_model

from steergraph import Context, LocalEngine, build_graph
from steergraph.engine.scripted import ScriptedEngine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TICKET = {"text": TASK["problem"], "project": TASK["repo"]}
THREAD = {"configurable": {"thread_id": "t"}}


def test_a_parent_streams_interrupts_and_resumes():
    engine = ScriptedEngine(speaks)
    parent = example("embed").build_parent(engine=engine)
    events, interrupts = [], []
    for namespace, mode, event in parent.stream(TICKET, THREAD, stream_mode=["custom", "updates"], subgraphs=True):
        if mode == "custom":
            events.append((namespace, event["event"]))
        elif not namespace and "__interrupt__" in event:
            interrupts.append(event["__interrupt__"][0].value)
    assert {name for _, name in events} >= {"route", "step_start", "step_end", "retrieved", "edit", "check", "outcome"}
    assert all(namespace and namespace[0].startswith("solve:") for namespace, _ in events)
    assert interrupts[0]["patch"].startswith("diff --git")
    assert parent.get_state(THREAD).next == ("approve",)
    final = parent.invoke(Command(resume=True), THREAD)
    assert final["approved"] is True and final["patch"] == interrupts[0]["patch"]
    assert len(engine.requests) == 4
    assert set(final) == {"text", "project", "patch", "status", "approved"}


@pytest.mark.slow
def test_the_example_approves_what_a_test_vouches_for(capsys):
    example("embed").main()
    said = capsys.readouterr().out
    assert "+        total += bills[shop]" in said and "it is patched\napproved: True" in said


@pytest.mark.parametrize(("status", "approved"), [("patched", True), ("patched_untested", False), ("no_edit", False)])
def test_the_example_approves_nothing_else(monkeypatch, capsys, status, approved):
    module = example("embed")

    class Answers:
        def invoke(self, state, **_):
            return {"patch": "diff --git", "status": status}

    monkeypatch.setattr(module, "build_graph", Answers)
    module.main()
    assert f"approved: {approved}" in capsys.readouterr().out


def test_a_parent_that_failed_in_the_middle_goes_on_inside_the_graph():
    broken = [True]

    def reply(request):
        if "fix bugs" in request.messages[0].content and broken:
            broken.pop()
            raise ConnectionError("the model went away")
        return speaks(request)

    engine = ScriptedEngine(reply)
    parent = example("embed").build_parent(engine=engine)
    with pytest.raises(ConnectionError):
        parent.invoke(TICKET, THREAD, durability="sync")
    spoken = len(engine.requests)
    state = parent.invoke(None, THREAD, durability="sync")
    assert state["patch"].startswith("diff --git") and "__interrupt__" in state
    assert len(engine.requests) == spoken + 1, "only the step that failed speaks again"


def test_the_graph_as_a_node_of_a_parent_that_shares_its_keys():
    from langgraph.graph import END, START, StateGraph
    from typing_extensions import TypedDict

    class Parent(TypedDict, total=False):
        problem: str
        repo: str
        patch: str | None
        mine: int

    parent = StateGraph(Parent)
    parent.add_node("steergraph", build_graph(engine=ScriptedEngine(speaks)))
    parent.add_edge(START, "steergraph")
    parent.add_edge("steergraph", END)
    out = parent.compile().invoke({**TASK, "mine": 3})
    assert out["patch"].startswith("diff --git") and out["mine"] == 3 and "steps" not in out


def test_cancelling_the_coroutine_cancels_the_generation(tmp_path):
    roster = tmp_path / "roster.yaml"
    roster.write_text("specialists:\n- {name: math, max_new_tokens: 190, system: x}\n")
    with LocalEngine(str(tiny_model("qwen3"))) as engine:
        graph = build_graph(engine=engine, roster=roster)
        started = threading.Event()

        async def run():
            task = {"kind": "reasoning", "problem": "1 + 1?"}
            async for event in graph.astream(task, context=Context(steering="none"), stream_mode="custom"):
                if event["event"] == "text":
                    started.set()

        async def cancelled():
            running = asyncio.create_task(run())
            await asyncio.to_thread(started.wait, 60)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        asyncio.run(cancelled())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            before = engine.counters.forwards
            time.sleep(0.3)
            if engine.counters.forwards == before:
                break
        assert engine.counters.forwards == before < 190


def test_importing_the_package_loads_no_model_library():
    code = "import sys, steergraph; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'langgraph')))"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_resolve():
    import steergraph

    assert all(getattr(steergraph, name) for name in steergraph.__all__)
    with pytest.raises(AttributeError):
        steergraph.nothing  # noqa: B018
