"""Golden files of `run`, `ask`, `find` and every command's options: what they print and write, as it is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden_help import Golden, as_json, golden_place, shapes

COMMANDS = (
    "run", "ask", "find", "vectors extract", "vectors list", "vectors show", "vectors compose", "vectors calibrate",
    "vectors project", "vectors lens", "vectors verify", "vectors export", "vectors import", "models list",
    "models fetch", "models show", "eval", "report",
    "route-bench", "lab sweep", "lab switching", "bench swebench", "bench retrieval", "serve", "doctor",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def golden(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Golden:
    return golden_place(tmp_path, cache, monkeypatch, capsys.readouterr)


def ran(golden: Golden, name: str, folder: str, line: str) -> None:
    """Run a line, and hold what it printed and every file of the run's folder against the golden ones."""
    golden.check(f"{name}.txt", golden.say(line))
    files = golden.listing(folder)
    parts = [files]
    for file in ("run.json", "outcome.json"):
        parts += [f"\n--- {file}", golden.record(f"{folder}/{file}")]
    trace = (golden.here / folder / "trace.jsonl").read_text(encoding="utf-8").splitlines()
    parts += ["\n--- trace.jsonl, its shape", shapes(trace)]
    for file in ("patch.diff", "prediction.jsonl"):
        if file in files.splitlines():
            parts += [f"\n--- {file}", (golden.here / folder / file).read_text(encoding="utf-8")]
    golden.check(f"{name}-files.txt", *parts)


def test_the_options_of_every_command(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    lines = []
    for command in ("", *COMMANDS):
        said = golden.say(f"{command} --help")
        assert said.code == 0
        options = sorted(set(re.findall(r"--[a-z][a-z0-9-]*", said.out)))
        lines.append(" ".join([f"{command or 'steergraph'}:", *options]))
    golden.check("options.txt", *lines, exact=True)


def test_the_version(golden: Golden) -> None:
    said = golden.say("--version")
    assert said.code == 0
    assert re.fullmatch(r"steergraph \d+\.\d+\.\d+\S*\n", said.out)
    again = subprocess.run([sys.executable, "-m", "steergraph", "--version"], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, said.out)


def test_the_parts_that_doctor_asks_for(golden: Golden) -> None:
    findings = json.loads(golden.say("doctor --json").out)
    golden.check("doctor.txt", *(f"{finding['part']}: {' '.join(finding)}" for finding in findings), exact=True)
    shown = golden.say("doctor")
    assert shown.code == 0
    assert all(finding["part"] in shown.out for finding in findings)


def test_find(golden: Golden) -> None:
    words = "find --repo pantry.bundle --issue issues/stock.md --budget 300 --files 3"
    golden.check(
        "find.txt",
        golden.say(words),
        golden.say(f"{words} --json"),
        golden.say('find --repo pantry.bundle --issue "the clean label" --suspect pantry/units.py --tests --budget 40'),
        golden.say("find --swebench rows.jsonl --instance steergraph__pantry-labels --repo pantry.bundle --files 1"),
        golden.say("find --repo pantry.bundle --issue zebra --files 2 --budget 40"),
    )


def test_a_run_with_tests(golden: Golden) -> None:
    line = "run --repo pantry.bundle --issue issues/labels.md --out labels --unsafe-tests"
    ran(golden, "run-labels", "labels", f'{line} --test "python -m unittest tests.test_labels"')
    golden.check("run-again.txt", golden.say("run --resume labels"), golden.say(line))


def test_a_run_without_retrieval(golden: Golden) -> None:
    line = "run --repo pantry.bundle --issue issues/stock.md --retrieval off --max-repairs 0 --out stock"
    ran(golden, "run-stock", "stock", line)


def test_a_run_of_a_published_arm_in_a_folder_of_its_own_name(golden: Golden) -> None:
    said = golden.say("run --repo pantry.bundle --issue issues/budget.md --preset static --max-repairs 1")
    golden.check("run-static.txt", said, re.sub(r"\d{8}-\d{6}", "<time>", golden.listing("runs")))


def test_a_run_as_json(golden: Golden) -> None:
    said = golden.say(
        "run --swebench rows.jsonl --instance steergraph__pantry-labels --repo pantry.bundle --preset rag_baseline "
        "--max-tokens 60 --max-repairs 0 --seed 3 --json --out json"
    )
    assert json.loads(said.out) == json.loads((golden.here / "json" / "outcome.json").read_text(encoding="utf-8"))
    prediction = (golden.here / "json" / "prediction.jsonl").read_text(encoding="utf-8")
    golden.check("run-json.txt", f"exit code {said.code}", said.err, as_json(json.loads(said.out)), prediction)


def test_ask(golden: Golden) -> None:
    ran(golden, "ask", "plain", 'ask "Ann has 4 apples and buys 3. How many apples has she?" --out plain')


def test_ask_among_choices(golden: Golden) -> None:
    Path("shots.txt").write_text("Q: 1 + 1?\n#### 2\n\nQ: 2 + 2?\n#### 4\n", encoding="utf-8")
    golden.check(
        "ask-choices.txt",
        golden.say('ask "Who was king?" --choices Ann Ben --out choices'),
        golden.say('ask "Who was king?" --choices Ann Ben --router model --steering none --out router'),
        golden.say('ask "Bob has 5 pens and loses 2. How many?" --examples shots.txt --out shots'),
        golden.listing("choices"),
    )
