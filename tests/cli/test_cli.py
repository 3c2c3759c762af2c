"""The command: real runs with pocket on the example repository, and bad input that ends in one line and code 2."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steergraph.cli import main

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = str(ROOT / "examples" / "pantry.bundle")
SPEAKERS = ["bug_analysis", "test_reasoning", "code_reading", "patch_writing"]
ISSUE = str(ROOT / "examples" / "issues" / "stock.md")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs are written below a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def outcome(folder):
    return json.loads((Path(folder) / "outcome.json").read_text())


def test_run_on_the_example(capsys):
    code = main(["run", "--repo", BUNDLE, "--issue", ISSUE, "--out", "run", "--max-repairs", "0"])
    shown = capsys.readouterr().out
    ended = outcome("run")
    assert code == (0 if ended["status"].startswith("patched") else 1)
    assert [s["specialist"] for s in ended["steps"]] == SPEAKERS
    modes = [s["decision"]["mode"] for s in ended["steps"]]
    vectors = [s["receipt"]["components"][0]["vector"] for s in ended["steps"] if s["receipt"]]
    assert modes == ["on", "on", "off", "off"] and vectors == ["bug_analysis", "test_reasoning"]
    assert [s["decision"]["rule"] for s in ended["steps"][2:]] == ["retrieved_context"] * 2
    for key in ("status", "patch", "tests", "files_found", "steps", "query", "provenance"):
        assert key in ended
    for step in ended["steps"]:
        assert {"specialist", "decision", "receipt", "tokens", "seconds"} <= set(step)
    assert "steering on: bug_analysis @ layer" in shown and "[retrieved_context]" in shown
    assert json.loads(Path("run/prediction.jsonl").read_text())["model_name_or_path"] == "steergraph-pocket-auto"
    events = [json.loads(line)["event"] for line in Path("run/trace.jsonl").read_text().splitlines()]
    assert events[0] == "route" and events[-1] == "outcome" and events.count("step_end") == 4


def test_without_retrieval_there_are_four_switches(capsys):
    main(
        [
            "run",
            "--repo",
            BUNDLE,
            "--issue",
            ISSUE,
            "--out",
            "run",
            "--retrieval",
            "off",
            "--max-repairs",
            "0",
            "--json",
        ]
    )
    printed = json.loads(capsys.readouterr().out)
    modes = [s["decision"]["mode"] for s in printed["steps"] if s["decision"]["rule"] != "guard"]
    assert modes == ["on", "on", "on", "outside_spans"]
    vectors = [s["receipt"]["components"][0]["vector"] for s in printed["steps"] if s["receipt"]]
    assert vectors == SPEAKERS
    assert printed == outcome("run")


def test_a_preset_without_steering_steers_nothing():
    main(["run", "--repo", BUNDLE, "--issue", ISSUE, "--out", "run", "--preset", "rag_baseline", "--max-repairs", "0"])
    assert {s["decision"]["mode"] for s in outcome("run")["steps"]} == {"off"}
    assert all(s["receipt"] is None for s in outcome("run")["steps"])


def test_ask_and_its_few_shot_gate(capsys):
    main(["ask", "Ann has 4 apples and buys 3. How many apples has she?", "--out", "plain"])
    assert outcome("plain")["steps"][0]["decision"]["mode"] == "on"
    Path("shots.txt").write_text("Q: 1 + 1?\n#### 2\n\nQ: 2 + 2?\n#### 4\n")
    main(["ask", "Bob has 5 pens and loses 2. How many?", "--examples", "shots.txt", "--out", "shots"])
    step = outcome("shots")["steps"][0]
    assert step["decision"]["rule"] == "few_shot" and step["decision"]["mode"] == "off"
    assert "#### 4" in step["prompt"][1]["content"]


BAD = {
    "no repository": (["run", "--repo", "nowhere", "--issue", "x"], "nowhere"),
    "not a repository": (["run", "--repo", ".", "--issue", "x"], "repository"),
    "unknown commit": (["run", "--repo", BUNDLE, "--issue", "x", "--commit", "0" * 40], "0000000"),
    "commit that is an option": (["run", "--repo", BUNDLE, "--issue", "x", "--commit=--output=x"], "commit"),
    "transport": (["run", "--repo", "ext::sh -c touch% pwned", "--issue", "x"], "ext"),
    "upload pack": (["run", "--repo=--upload-pack=touch pwned", "--issue", "x"], "cannot start with"),
    "empty issue": (["run", "--repo", BUNDLE, "--issue", ""], "empty"),
    "blank issue": (["run", "--repo", BUNDLE, "--issue", "  "], "empty"),
    "missing issue file": (["run", "--repo", BUNDLE, "--issue", "no/such.md"], "no/such.md"),
    "no issue": (["run", "--repo", BUNDLE], "--issue"),
    "no repo": (["run", "--issue", "x y"], "--repo"),
    "model without weights": (["run", "--repo", BUNDLE, "--issue", "x", "--model", "empty"], "empty"),
    "unknown model": (["run", "--repo", BUNDLE, "--issue", "x", "--model", "./none"], "none"),
    "unknown preset": (["run", "--repo", BUNDLE, "--issue", "x", "--preset", "fast"], "fast"),
    "unknown library": (["run", "--repo", BUNDLE, "--issue", "x", "--vectors", "nowhere"], "nowhere"),
    "bad roster": (["run", "--repo", BUNDLE, "--issue", "x", "--roster", "none.yaml"], "none.yaml"),
    "nothing to resume": (["run", "--resume", "empty"], "no run"),
    "no dataset": (["run", "--swebench", "none.parquet", "--instance", "a"], "none.parquet"),
    "apply to a bundle": (["run", "--repo", BUNDLE, "--issue", "x", "--apply"], "--apply"),
    "empty question": (["ask", " "], "empty"),
    "one choice": (["ask", "Which?", "--choices", "a"], "--choices"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_code_2(case, capsys):
    arguments, words = BAD[case]
    Path("empty").mkdir()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("steergraph: ") and said.err.count("\n") == 1, said.err
    assert __import__("re").search(words, said.err), said.err
    assert "Traceback" not in said.err and not Path("pwned").exists() and not Path("runs").exists()


def test_apply_changes_the_users_tree_all_or_nothing(tmp_path, capsys):
    from steergraph.agents.edits.apply import apply_to_tree
    from steergraph.base.errors import InputError
    from steergraph.repo.repository import Repository

    tree = tmp_path / "tree"
    subprocess.run(["git", "clone", "-q", BUNDLE, str(tree)], check=True)
    repository = Repository.open(str(tree))
    sha = repository.resolve(None)
    stock = tree / "pantry" / "stock.py"
    before = stock.read_text()
    apply_to_tree(repository, sha, tree, {"pantry/stock.py": before + "# x\n", "new/file.py": "y = 1\n"})
    assert stock.read_text() == before + "# x\n" and (tree / "new" / "file.py").read_text() == "y = 1\n"
    (tree / "pantry" / "units.py").write_text("mine")
    with pytest.raises(InputError, match=r"units\.py has changes"):
        apply_to_tree(repository, sha, tree, {"pantry/prices.py": "z", "pantry/units.py": "z"})
    assert (tree / "pantry" / "prices.py").read_text() != "z"
    apply_to_tree(repository, sha, tree, {"pantry/prices.py": None})
    assert not (tree / "pantry" / "prices.py").exists()
    (tree / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="symbolic link"):
        apply_to_tree(repository, sha, tree, {"link/x.py": "z"})
    assert not (tmp_path / "x.py").exists()


def start(*arguments):
    command = [sys.executable, "-m", "steergraph", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_and_doubles_nothing(sign):
    process = start("run", "--repo", BUNDLE, "--issue", ISSUE, "--out", "run", "--max-repairs", "0")
    trace = Path("run/trace.jsonl")
    for _ in range(1200):
        if trace.exists() and '"step_end"' in trace.read_text():
            break
        time.sleep(0.05)
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    if process.returncode in (0, 1):
        pytest.skip("the run had ended before the signal came")
    if sign == signal.SIGINT:
        assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert not Path("run/outcome.json").exists()
    again = start("run", "--resume", "run")
    again.communicate(timeout=120)
    assert again.returncode in (0, 1)
    ended = outcome("run")
    assert [s["specialist"] for s in ended["steps"]] == SPEAKERS
    assert main(["run", "--resume", "run"]) == again.returncode
    assert outcome("run")["steps"] == ended["steps"]


def test_a_router_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ask", "Who was king?", "--choices", "Ann", "Ben", "--router", "model", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert "the model's likeliest name" in capsys.readouterr().out
