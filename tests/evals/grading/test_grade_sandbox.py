"""Grading an instance of our own in the sandbox: verdicts, the harness's files, what is contained, what goes on."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grade_help as own
import pytest

from steergraph.base.errors import InputError
from steergraph.base.files import held
from steergraph.cli import main
from steergraph.evals.grading.grade import Grader, Places, install_part
from steergraph.evals.grading.official import Official, OfficialError
from steergraph.evals.grading.pins import Pins
from steergraph.evals.grading.rows import Prediction, Row, gold_predictions, read_rows
from steergraph.evals.grading.sandbox import LADDER, Bounds
from steergraph.evals.swebench.repos import Repos
from steergraph.sandbox.run import Sandbox, SandboxUnavailable

pytest.importorskip("swebench", reason="the official harness is not installed (steergraph[swebench])")


def sandbox_or_skip() -> Sandbox:
    try:
        return Sandbox.detect("bwrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))


class Place:
    """A folder with the repository, a tiny environment, and what a grader needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = own.make_repository(folder / "repos/own__calc")
        self.pins = Pins(None, own.write_specs(folder / "specs.json"))
        self.environment = own.make_environment(folder / "cache", self.pins)
        self.places = Places(Repos(str(folder / "repos")), folder / "cache", folder / "out", fetch=False)

    def rows(self, **changes: Any) -> dict[str, Row]:
        path = own.write_jsonl(self.folder / "data.jsonl", [own.make_row(self.base, **changes)])
        return read_rows([path])

    def grader(self, rows: dict[str, Row], run_id: str, official: Official, bounds: Bounds | None = None) -> Grader:
        bounds = bounds or Bounds(timeout_s=60)
        return Grader(rows, self.pins, self.places, sandbox_or_skip(), bounds, run_id, official)


@pytest.fixture(scope="module")
def official() -> Iterator[Official]:
    with Official() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("grade"))


@pytest.fixture(scope="module")
def grader(place: Place, official: Official) -> Iterator[Grader]:
    with place.grader(place.rows(), "main", official) as made:
        yield made


def asked(patch: str | None, model: str) -> Prediction:
    return Prediction(instance_id=own.INSTANCE, model=model, patch=patch)


def test_the_four_verdicts(grader: Grader, place: Place) -> None:
    gold = gold_predictions(place.rows().values())[0]
    predictions = [gold, asked(own.NO_OP, "no-op"), asked(own.WRONG, "wrong"), asked(own.GARBAGE, "garbage")]
    told: list[str] = []
    verdicts = grader.grade_all([*predictions, asked("", "empty")], 2, lambda verdict: told.append(verdict.model))
    assert {each.model: each.verdict for each in verdicts} == {
        "gold": "resolved",
        "no-op": "unresolved",
        "wrong": "unresolved",
        "garbage": "not_applied",
        "empty": "empty",
    }
    assert sorted(told) == ["empty", "garbage", "gold", "no-op", "wrong"]
    by_model = {each.model: each for each in verdicts}
    assert by_model["gold"].passed == (1, 1, 1, 1) and by_model["wrong"].passed == (0, 1, 1, 1)
    assert "test_calc.py::test_add" in by_model["wrong"].reason

    reports = grader.summarise(verdicts, [*predictions, asked("", "empty")], place.folder / "data.jsonl")
    said = {path.name: json.loads(path.read_text()) for path in reports}
    assert said["gold.main.json"]["resolved_ids"] == [own.INSTANCE] == said["gold.main.json"]["gold_ids"]
    assert said["wrong.main.json"]["unresolved_ids"] == [own.INSTANCE]
    assert said["garbage.main.json"]["error_ids"] == [own.INSTANCE]
    assert said["empty.main.json"]["empty_patch_ids"] == [own.INSTANCE]
    assert all(each["schema_version"] == 2 and each["ungraded_ids"] == [] for each in said.values())


@pytest.mark.slow
def test_the_harness_reads_the_logs_as_its_own(grader: Grader, place: Place, tmp_path: Path) -> None:
    """Its own functions grade again from the files, in the layout that it looks for below its working folder."""
    grader.grade(asked(own.WRONG, "wrong"))
    grader.grade(gold_predictions(place.rows().values())[0])
    folder = place.folder / "out/logs/run_evaluation/main/gold" / own.INSTANCE
    names = {"patch.diff", "eval.sh", "test_output.txt", "run_instance.log", "report.json", "verdict.json"}
    assert {path.name for path in folder.iterdir()} == names
    before = json.loads((folder / "report.json").read_text())
    code = (
        "import json, sys\nfrom swebench.harness.run_evaluation import run_instance, GIT_APPLY_CMDS\n"
        "from swebench.harness.utils import make_test_spec\nrow = json.loads(open(sys.argv[1]).readline())\n"
        "for model in ('gold', 'wrong'):\n"
        "    pred = {'instance_id': row['instance_id'], 'model_patch': 'x', 'model_name_or_path': model}\n"
        "    print(json.dumps(run_instance(make_test_spec(row), pred, None, 'main', rewrite_reports=True)[1]))\n"
        "print(json.dumps(GIT_APPLY_CMDS))"
    )
    words = [sys.executable, "-P", "-c", code, str(place.folder / "data.jsonl")]
    done = subprocess.run(words, cwd=place.folder / "out", capture_output=True, text=True, check=True)
    gold, wrong, ladder = (json.loads(line) for line in done.stdout.splitlines())
    assert gold == before and gold[own.INSTANCE]["resolved"] and not wrong[own.INSTANCE]["resolved"]
    assert tuple(ladder) == LADDER
    log = (folder / "run_instance.log").read_text()
    assert ">>>>> Applied Patch" in log and "return a + b" in log
    assert "Test Exit Code: 0" in (folder / "test_output.txt").read_text()


def test_finished_ones_are_not_graded_again(grader: Grader, place: Place) -> None:
    first = grader.grade(asked(own.WRONG, "again"))
    folder = place.folder / "out/logs/run_evaluation/main/again" / own.INSTANCE
    (folder / "test_output.txt").write_text("kept")
    assert grader.grade(asked(own.WRONG, "again")) == first
    assert (folder / "test_output.txt").read_text() == "kept"
    # Another patch is another question; so is what a kill left without a verdict.
    assert grader.grade(asked(own.GOLD, "again")).verdict == "resolved"
    (folder / "verdict.json").unlink()
    (folder / "report.json").write_text("{")
    assert grader.grade(asked(own.WRONG, "again")).verdict == "unresolved"
    assert not json.loads((folder / "report.json").read_text())[own.INSTANCE]["resolved"]


def test_two_processes_do_not_grade_one_run(grader: Grader) -> None:
    grader.logs.mkdir(parents=True, exist_ok=True)
    with held(grader.logs / ".lock", ""), pytest.raises(InputError, match="another process grades the run main"):
        grader.grade_all([asked(own.WRONG, "two")])


def test_an_environment_that_fails_gold_grades_nothing(tmp_path: Path, official: Official) -> None:
    place = Place(tmp_path)
    (place.environment / "env/bin/pytest").write_text("#!/bin/bash\nexit 4\n")
    rows = place.rows()
    with place.grader(rows, "broken", official) as grader:
        predictions = [asked(own.WRONG, "m"), asked(own.GOLD, "m2")]
        verdicts = grader.grade_all(predictions)
        (report, _) = grader.summarise(verdicts, predictions, tmp_path / "data.jsonl")
    assert [each.verdict for each in verdicts] == ["ungraded", "ungraded"]
    assert all("gold is unresolved in this environment" in each.reason for each in verdicts)
    said = json.loads(report.read_text())
    assert said["ungraded_ids"] == [own.INSTANCE] and said["resolved_ids"] == []
    assert "unresolved_ids" not in said and "gold is unresolved" in said["ungraded_reasons"][own.INSTANCE]


def test_what_cannot_be_made_is_said(tmp_path: Path, official: Official) -> None:
    place = Place(tmp_path)
    other = own.make_row(place.base, instance_id="own__other-1", repo="own/other")
    unknown = own.make_row(place.base, instance_id="own__calc-2", version="9.9")
    strange = own.make_row(place.base, instance_id="own__calc-3", base_commit="f" * 40)
    parser = own.make_row(place.base, instance_id="own__calc-4", log_parser="parse_log_of_nobody")
    rows = read_rows([own.write_jsonl(tmp_path / "data.jsonl", [other, unknown, strange, parser])])
    with place.grader(rows, "missing", official) as grader:
        reasons = {
            each.instance_id: (each.verdict, each.reason) for each in grader.grade_all(gold_predictions(rows.values()))
        }
    assert {kind for kind, _ in reasons.values()} == {"ungraded"}
    assert "nothing pins its environment" in reasons["own__other-1"][1]
    assert "nothing pins its environment" in reasons["own__calc-2"][1]
    assert "no commit" in reasons["own__calc-3"][1]
    assert "parse_log_of_nobody" in reasons["own__calc-4"][1]


BOMBS: dict[str, tuple[str, dict[str, float], tuple[str, ...]]] = {
    "forks": ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", {"max_processes": 40}, ("stopped",)),
    "disk": ("open('big', 'wb').write(bytes(200 << 20))", {"disk_mb": 50}, ("unresolved", "stopped")),
    "term": (
        "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(1)",
        {"timeout_s": 6.0},
        ("stopped",),
    ),
    "prints": ("while True: print('a line that is printed for ever')", {"output_bytes": 100_000}, ("stopped",)),
    "spoofs": (
        "print('PASSED test_calc.py::test_add\\nPASSED test_calc.py::test_mul', flush=True)\nimport os; os._exit(1)",
        {},
        ("unresolved",),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_patch_that_attacks_is_contained_and_the_run_goes_on(
    place: Place, grader: Grader, official: Official, name: str
) -> None:
    """The patch replaces what the tests import, so it runs when they do."""
    code, bounds, allowed = BOMBS[name]
    lines = code.splitlines()
    patch = (
        f"diff --git a/calc.py b/calc.py\n--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,{len(lines) + 2} @@\n"
        + "".join(f"+{line}\n" for line in lines)
        + " def add(a, b):\n     return a - b\n"
    )
    assert grader.grade(asked(own.NO_OP, "proves the environment")).verdict == "unresolved"
    limits = Bounds(**{"timeout_s": 60.0, "memory_mb": 1024} | bounds)
    with place.grader(place.rows(), "bombs", official, limits) as limited:
        (bomb,) = limited.grade_all([asked(patch, name)])
    assert bomb.verdict in allowed, bomb
    assert bomb.reason and "\n" not in bomb.reason
    assert grader.grade(asked(own.GOLD, f"after {name}")).verdict == "resolved"


def test_patches_that_reach_out_do_not(grader: Grader) -> None:
    outside = own.NO_OP.replace("NOTES.txt", "../../../tmp/steergraph-escaped")
    verdict = grader.grade(asked(outside, "out"))
    assert verdict.verdict == "not_applied" and verdict.reason.startswith("refused: ")
    huge = grader.grade(asked(own.GOLD + "+x" * (26 << 20), "huge"))
    assert huge.verdict == "not_applied" and "55 MB" in huge.reason
    kept = grader.logs / "huge" / own.INSTANCE / "patch.diff"
    assert kept.stat().st_size <= 1 << 20


@pytest.mark.slow
def test_the_command_prints_and_ends_with_a_code(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox_or_skip()
    place.rows()
    words = ["eval", "--dataset", str(place.folder / "data.jsonl"), "--repos", str(place.folder / "repos")]
    words += ["--specs", str(place.folder / "specs.json"), "--cache", str(place.folder / "cache"), "--offline"]
    words += ["--out", str(tmp_path / "out")]
    assert main([*words, "--controls"]) == 0
    said = capsys.readouterr().out
    assert "1 instances tell gold, no-op and garbage apart: own__calc-1" in said
    assert "gold: 1 of 1 graded: 1 resolved" in said
    meta = json.loads((tmp_path / "out/logs/run_evaluation/eval/run.json").read_text())
    assert meta["dataset"] == str(place.folder / "data.jsonl") and meta["split"] == "test"

    predictions = own.write_jsonl(
        tmp_path / "p.jsonl",
        [own.prediction(own.GOLD, "cheat"), {**own.prediction(own.GOLD, "cheat"), "instance_id": "nobody"}],
    )
    assert main([*words, "--predictions", str(predictions)]) == 0
    said = capsys.readouterr().out
    assert "note: p.jsonl line 2: no instance 'nobody'" in said
    assert "cheat: 1 of 1 graded: 1 resolved; 1 are the gold patch" in said


@pytest.mark.slow
def test_an_interrupted_run_ends_at_once_and_goes_on(tmp_path: Path) -> None:
    """Ctrl-C while two predictions' tests sleep: no verdict is kept of them, and none is lost of what was finished."""
    sandbox_or_skip()
    place = Place(tmp_path)
    place.rows()
    sleeper = own.patch_of("a - b", "__import__('time').sleep(600)")
    predictions = [own.prediction(own.WRONG, "a"), own.prediction(sleeper, "b"), own.prediction(sleeper, "c")]
    path = own.write_jsonl(tmp_path / "p.jsonl", predictions)
    words = [sys.executable, "-m", "steergraph", "eval", "--dataset", str(tmp_path / "data.jsonl"), "--jobs", "2"]
    words += ["--repos", str(tmp_path / "repos"), "--specs", str(tmp_path / "specs.json"), "--offline"]
    words += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), "--predictions"]
    logs = tmp_path / "out/logs/run_evaluation/eval"
    # A shell that starts something in the background has it ignore interrupts; a terminal does not.
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"os.execv({sys.executable!r}, {[*words, str(path)]!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "[a]: unresolved" in process.stdout.readline()
        for name in ("b", "c"):
            wait_for(lambda name=name: (logs / name / own.INSTANCE / "eval.sh").is_file())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not (logs / "b" / own.INSTANCE / "verdict.json").exists()
    assert not list((tmp_path / "cache").glob(".making-*"))
    quick = own.write_jsonl(tmp_path / "q.jsonl", [own.prediction(own.WRONG, "a"), own.prediction(own.NO_OP, "b")])
    again = subprocess.run([*words, str(quick)], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "b: 1 of 1 graded: 1 unresolved" in again.stdout


def wait_for(seen: Callable[[], bool], patience_s: float = 60.0) -> None:
    end = time.monotonic() + patience_s
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (["--instances", "x"], "no such instance"),
        (["--jobs", "1", "--run-id", ""], "cannot name a run"),
        (["--run-id", "../up"], "cannot name a run"),
        (["--repos", "none"], "no such folder"),
        (["--specs", "none.json"], "no such file"),
        (["--dataset", "none.parquet"], "not a readable dataset: no such file"),
    ],
)
def test_bad_words_are_one_line(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], why: str
) -> None:
    sandbox_or_skip()
    place.rows()
    words = ["eval", "--gold", "--dataset", str(place.folder / "data.jsonl"), "--repos", str(place.folder / "repos")]
    assert main([*words, "--out", str(tmp_path), *wrong]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1


def test_docker_without_a_daemon_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    data = own.write_jsonl(tmp_path / "data.jsonl", [own.make_row("0" * 40)])
    assert main(["eval", "--gold", "--dataset", str(data), "--executor", "docker", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no Docker daemon" in said and said.count("\n") == 1


def test_an_error_does_not_end_the_official_process(official: Official) -> None:
    with pytest.raises(OfficialError, match="KeyError"):
        official.eval_script({"instance_id": "x"})
    assert "Test Exit Code" in official.eval_script(own.make_row("0" * 40))


def test_the_official_process_sees_none_of_our_variables(official: Official) -> None:
    """swebench loads a `.env` into its environment where it may."""
    official.eval_script(own.make_row("0" * 40))
    assert official._process is not None
    names = {each.split(b"=")[0] for each in Path(f"/proc/{official._process.pid}/environ").read_bytes().split(b"\0")}
    assert b"PYTHON_DOTENV_DISABLED" in names
    kept = {b"PATH", b"PYTHONPATH", b"LANG", b"TMPDIR"}
    assert names <= kept | {b"HOME", b"HF_HUB_OFFLINE", b"PYTHON_DOTENV_DISABLED", b""}


def test_the_part_of_a_script_that_installs() -> None:
    script = own.SCRIPT.format(base="abc", install="python -m pip install -e .", test_patch="", command="pytest")
    assert install_part(script) == "python -m pip install -e ."
    assert install_part("") == "true"
