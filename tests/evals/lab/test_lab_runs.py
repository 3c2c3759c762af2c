"""`steergraph lab` on pocket, small: what it writes, that it resumes, and what it says to bad input."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from steergraph.cli import main
from steergraph.evals.example_issues import hidden_passes, load_examples
from steergraph.evals.example_issues import main as examples
from steergraph.evals.lab.suspects import write_repository
from steergraph.evals.lab.sweep import SweepSettings, grid
from steergraph.evals.lab.switching import edited
from steergraph.repo.repository import Repository
from steergraph.sandbox.run import Sandbox
from training.abilities import main as abilities
from training.hidden_tests import edited_function
from training.repairs import main as repairs
from training.tasks.cases import draw_cases

ROOT = Path(__file__).resolve().parents[3]
TASKS = ("--tasks", "training.tasks:POCKET")
SMALL = """
select: 2
report: 3
domains: [law]
perplexity_items: 1
doses:
  contrast: {residual: [0.2], unit_vector: {auto: [0.2]}}
  prompts: {residual: [0.2]}
prompt_texts: 8
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_a_sweep_writes_its_findings_and_goes_on(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, cells, maps = tmp_path / "out", tmp_path / "cells" / "pocket.yaml", tmp_path / "maps"
    command = ["lab", "sweep", *TASKS, "--out", str(out), "--settings", str(settings)]
    assert main([*command, "--cells", str(cells), "--maps", str(maps)]) == 0
    assert "Are late layers frozen?" in capsys.readouterr().out
    record = json.loads((out / "sweep.json").read_text())
    asked = 2 * (1 + 3 * 12)  # prompts, arms
    assert len(record["cells"]) == asked
    assert {cell["n"] for cell in record["cells"]} == {2}
    assert len((out / "select" / "rows.jsonl").read_text().splitlines()) == 2 * asked
    assert record["model"]["name"] == "pocket"
    assert {one["goal"] for one in record["found"]} <= {"task", "register"}
    assert all(one["accuracy"]["n"] == 3 for one in record["found"])
    assert yaml.safe_load(cells.read_text())["n_layers"] == 12
    assert sorted(path.suffix for path in maps.iterdir()) == [".png"] * 3 + [".svg"] * 3
    before = (out / "sweep.json").read_text()
    assert main(command) == 0
    assert (out / "sweep.json").read_text() == before


def test_bad_settings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    for text, said in (
        ("select: 0\n", "select"),
        ("domains: [cooking]\n", "cooking"),
        ("domains: []\n", "domains"),
        ("prompts: []\n", "prompts"),
        ("doses: {contrast: {residual: [0.1, 0.1]}}\n", "twice"),
        ("doses: {contrast: {unit_vector: {}}}\n", "auto"),
        ("doses: {contrast: {residual: {auto: [0.1]}}}\n", "residual"),
        ("- 1\n", "mapping"),
    ):
        path.write_text(text)
        assert main(["lab", "sweep", *TASKS, "--out", str(tmp_path / "out"), "--settings", str(path)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    path.write_text("comparisons: [[dynamc, baseline]]\n")
    assert main(["lab", "switching", *TASKS, "--out", str(tmp_path / "out"), "--settings", str(path)]) == 2
    assert "dynamc" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_or_read_is_said_before_the_long_part(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for command in (
        ["lab", "sweep", *TASKS, "--out", str(file)],
        ["lab", "sweep", *TASKS, "--out", str(tmp_path / "out"), "--cells", str(file / "cells.yaml")],
        ["lab", "switching", *TASKS, "--out", str(tmp_path / "out"), "--examples", str(tmp_path)],
    ):
        assert main(command) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("out/*/rows.jsonl"))


def test_a_grid_has_every_layer_at_every_dose() -> None:
    plan = SweepSettings.load()
    cells = grid(plan, "law", 12, 1000.0)
    doses = {(cell.source, cell.unit, cell.alpha) for cell in cells}
    assert len(cells) == 12 * len(doses)
    assert {unit for source, unit, _ in doses if source == "contrast"} == {"unit_vector", "raw", "residual"}
    absolute = sorted(alpha for _, unit, alpha in doses if unit == "unit_vector")
    relative = sorted(alpha for source, unit, alpha in doses if (source, unit) == ("contrast", "residual"))
    assert absolute == pytest.approx([1000 * alpha for alpha in relative])
    assert len({cell.arm.name for cell in cells}) == len(cells)


def test_switching_compares_all_arms_on_the_same_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("cases: 3\n")
    assert main(["lab", "switching", *TASKS, "--out", str(tmp_path / "out"), "--settings", str(path)]) == 0
    assert "Do the suspects help retrieval?" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "switching.json").read_text())
    assert {arm["n"] for arm in record["arms"].values()} == {3}
    assert record["arms"]["baseline"]["steered_steps"] == 0
    assert record["arms"]["rag_baseline"]["steered_steps"] == 0
    assert record["arms"]["dynamic"]["steered_steps"] == 4  # all four specialists
    assert record["arms"]["rag_dynamic"]["steered_steps"] == 4
    assert record["arms"]["auto"]["steered_steps"] <= 2  # the gate holds where there is context
    assert record["suspects"]["issue alone"]["names"] == 0


def test_cases_are_judged_by_edits_as_the_graph_makes_them() -> None:
    for case in draw_cases(5, 8):
        right = edited(case, case.sample.answer)
        assert right is not None
        assert tuple(right.splitlines()) == case.scene.fixed
        assert tuple(edited_function(case.scene, right.splitlines())) == case.scene.piece.fixed
        assert edited(case, f"```python\n{right}```", "whole_file") in (right, None)
        assert edited(case, f"{case.target}\n```python\n{right}```", "whole_file") == right
        assert edited(case, "I don't know.") is None
        assert edited(case, case.sample.answer.replace(".py", "_other.py", 1)) is None
        assert re.search(r"\nIt is in \S+: `.+`$", case.quoted)


def test_the_cases_repository_is_a_repository(tmp_path: Path) -> None:
    cases = draw_cases(5, 4)
    targets = write_repository(cases, tmp_path / "one")
    with Repository.open(tmp_path / "one") as repository:
        sha = repository.resolve()
        for case in cases:
            text = repository.read(sha, targets[case.id]).text
            assert text is not None
            assert text.splitlines() == list(case.scene.passages[case.scene.target].lines)
    write_repository(cases, tmp_path / "two")
    with Repository.open(tmp_path / "two") as repository:
        assert repository.resolve() == sha


def test_hidden_tests_tell_a_repair_from_none(tmp_path: Path) -> None:
    issue = next(one for one in load_examples(ROOT / "examples") if one.name == "budget")
    bundle, sandbox = ROOT / "examples" / "pantry.bundle", Sandbox.detect(unsafe=True)
    text = (ROOT / "examples/pantry/pantry/budget.py").read_text()
    harmless = (
        "diff --git a/pantry/budget.py b/pantry/budget.py\n--- a/pantry/budget.py\n+++ b/pantry/budget.py\n"
        f"@@ -1,1 +1,2 @@\n+# A comment.\n {text.splitlines()[0]}\n"
    )
    assert not hidden_passes(issue, bundle, harmless, sandbox)


def test_example_issues_refuse_what_they_do_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examples(["nothing", "--examples", str(ROOT / "examples")]) == 2
    assert "budget" in capsys.readouterr().err
    assert examples(["--examples", str(ROOT / "examples"), "--max-repairs", "-1"]) == 2
    assert "--max-repairs -1" in capsys.readouterr().err
    (tmp_path / "pantry.bundle").touch()
    (tmp_path / "issue.md").touch()
    lacking = "issues: [{name: a, issue: issue.md, test: t, hidden: nowhere.py}]\n"
    for table in (None, "issues: []\n", lacking):
        if table:
            (tmp_path / "issues.yaml").write_text(table)
        assert examples(["--examples", str(tmp_path)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("measure", [abilities, repairs])
def test_a_measurement_says_first_that_its_result_has_no_place(
    measure: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(["--n", "1", "--out", str(tmp_path / "missing" / "x.json")]) == 2
    assert "make it first" in capsys.readouterr().err
    assert measure(["--n", "1", "--out", str(tmp_path)]) == 2
    assert "name a file in it" in capsys.readouterr().err
    assert measure(["--n", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_abilities_ask_as_often_as_they_say(tmp_path: Path) -> None:
    """Two questions a register; of calendar requests for JSON, which come by turns with others, two as well."""
    assert abilities(["--n", "2", "--out", str(tmp_path / "x.json")]) == 0
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["register"]["n"] == 2 * len(report["registers"])
    assert report["registers"]["calendar"]["valid_json"]["n"] == 2
    assert [name for name, found in report["registers"].items() if "valid_json" in found] == ["calendar"]
