"""A run that goes on in another process makes the same decisions: nothing of it may live in the engine alone.

What was killed is compared with the undisturbed run: decisions, receipts and, in deterministic mode, texts.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_help import EXAMPLES, pantry_rows, write_dataset
from langgraph.checkpoint.memory import InMemorySaver

from steergraph.agents.graph import build_graph
from steergraph.agents.run_config import Context
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine

ISSUE = (EXAMPLES / "issues" / "stock.md").read_text(encoding="utf-8")
TASK = {"problem": ISSUE, "repo": str(EXAMPLES / "pantry.bundle")}
QUESTION = {"kind": "reasoning", "problem": "Which court hears an appeal?", "choices": ["the high court", "nobody"]}
THREAD = {"configurable": {"thread_id": "t"}}


@pytest.fixture(scope="module")
def pocket():
    return load_model("pocket")


def told(step: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same however often the run was interrupted."""
    return {key: step[key] for key in ("specialist", "attempt", "decision", "receipt", "text", "guard", "prompt")}


def in_one_go(pocket, task, context) -> dict[str, Any]:
    with LocalEngine(pocket, deterministic=True) as engine:
        return build_graph(engine=engine).invoke(task, context=context)


def a_node_a_process(pocket, task, context) -> tuple[dict[str, Any], list[str]]:
    """The run, every node of it on an engine and a graph that have seen nothing of the nodes before."""
    saver, given, nodes = InMemorySaver(), task, []
    while True:
        with LocalEngine(pocket, deterministic=True) as engine:
            graph = build_graph(engine=engine, checkpointer=saver)
            out = graph.invoke(given, THREAD, context=context, interrupt_before="*", durability="sync")
            coming = graph.get_state(THREAD).next
        if not coming:
            return out, nodes
        given, nodes = None, [*nodes, *coming]


@pytest.mark.parametrize(
    ("task", "context"),
    [
        pytest.param(TASK, Context(max_repairs=1), id="auto"),
        pytest.param(TASK, Context(preset="static", max_repairs=0), id="static"),
        pytest.param(QUESTION, Context(), id="question"),
        pytest.param(TASK, Context(retrieval="off"), id="zero-shot", marks=pytest.mark.slow),
        pytest.param(TASK, Context(preset="rag_dynamic"), id="gate off", marks=pytest.mark.slow),
        pytest.param(
            TASK, Context(preset="dynamic", vector="law", dose=0.5), id="another's vector", marks=pytest.mark.slow
        ),
    ],
)
def test_every_node_in_a_process_of_its_own_decides_the_same(pocket, task, context):
    whole = in_one_go(pocket, task, context)
    pieces, nodes = a_node_a_process(pocket, task, context)
    assert {step["specialist"] for step in whole["steps"]} < set(nodes)
    assert any(step["receipt"] for step in whole["steps"])
    assert [told(step) for step in pieces["steps"]] == [told(step) for step in whole["steps"]]
    assert (pieces["status"], pieces["patch"], pieces["answer"]) == (whole["status"], whole["patch"], whole["answer"])


# `main` in a process that kills itself at its n-th line of a trace or of an experiment's rows.
_DIES = """
import os, signal, sys
from steergraph.base import files
left, real = [int(sys.argv[1])], files.append_line

def append(path, record):
    real(path, record)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

files.append_line = append
from steergraph.cli import main
sys.exit(main(sys.argv[2:]))
"""


def killed_at(n: int, *words: str) -> bool:
    """Whether the kill came before the command's own end. With n = 0 it never comes."""
    command = [sys.executable, "-c", _DIES, str(n), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode in (0, 1, -signal.SIGKILL) and "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode == -signal.SIGKILL


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [told(step) for step in json.loads(path.read_text(encoding="utf-8"))["steps"]]


@pytest.mark.slow
def test_run_is_killed_at_lines_of_its_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "--repo", TASK["repo"], "--issue", ISSUE, "--max-repairs", "1", "--json"]
    assert not killed_at(0, *words, "--out", "whole")
    expected = steps_of(Path("whole/outcome.json"))
    lines = len(Path("whole/trace.jsonl").read_text().splitlines())
    assert any(step["receipt"] for step in expected)
    for n in range(1, lines + 1, max(1, lines // 6)):
        assert killed_at(n, *words, "--out", f"cut-{n}"), n
        assert not killed_at(0, "run", "--resume", f"cut-{n}", "--json")
        assert steps_of(Path(f"cut-{n}/outcome.json")) == expected, n
    # And one that dies again and again.
    killed_at(2, *words, "--out", "often")
    while killed_at(5, "run", "--resume", "often", "--json"):
        pass
    assert steps_of(Path("often/outcome.json")) == expected


@pytest.mark.slow
def test_a_batch_is_killed_again_and_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = write_dataset(tmp_path / "rows.jsonl", pantry_rows("stock", "shelf"))
    words = ["bench", "swebench", "--dataset", str(rows), "--deterministic", "--repos", str(EXAMPLES)]
    words += ["--presets", "dynamic,auto", "--max-repairs", "1", "--jobs", "2"]
    assert not killed_at(0, *words, "--run-id", "whole")
    kills = 0
    while killed_at(20, *words, "--run-id", "cut"):
        kills += 1
    assert kills >= 3
    whole, cut = (sorted(Path("runs", run).rglob("outcome.json")) for run in ("whole", "cut"))
    assert len(whole) == len(cut) == 4
    for one, other in zip(whole, cut, strict=True):
        assert steps_of(one) == steps_of(other)
    predictions = [sorted(Path("runs", run, "predictions").iterdir()) for run in ("whole", "cut")]
    assert [p.read_text() for p in predictions[0]] == [p.read_text() for p in predictions[1]]


@pytest.mark.slow
def test_the_lab_is_killed_again_and_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump({"cases": 3}))
    words = ["lab", "switching", "--settings", "small.yaml", "--tasks", "training.tasks:POCKET"]
    assert not killed_at(0, *words, "--out", "whole")
    kills = 0
    while killed_at(11, *words, "--out", "cut"):
        kills += 1
    assert kills >= 2
    for experiment in ("switching", "suspects"):
        rows = [Path(run, experiment, "rows.jsonl").read_text() for run in ("whole", "cut")]
        assert rows[0] == rows[1]
