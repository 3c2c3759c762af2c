"""Golden files of what measures: `bench`, `report`, `lab` and `route-bench`, each as small as it can be."""

import json
import re
from pathlib import Path

import pytest
from golden_help import Golden, as_json, golden_place, shapes

SWEEP = """
select: 2
report: 2
domains: [law]
perplexity_items: 1
doses:
  contrast: {residual: [0.2]}
  prompts: {residual: [0.2]}
prompt_texts: 8
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def golden(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Golden:
    return golden_place(tmp_path / "here", cache, monkeypatch, capsys.readouterr)


def text(name: str) -> str:
    return f"--- {name}\n{Path(name).read_text(encoding='utf-8')}"


def timeless(markdown: str) -> str:
    """A report without its seconds: a row of the comparisons, and a column of the variants."""
    rows = re.sub(r"^\| seconds \|.*", "| seconds | ...", markdown, flags=re.MULTILINE)
    return re.sub(r"\| \d+\.\d (?=\| \d+ \|$)", "| ... ", rows, flags=re.MULTILINE)


def test_a_batch_and_its_report(golden: Golden) -> None:
    words = "bench swebench --dataset rows.jsonl --repos . --run-id g --max-repairs 0 --deterministic --jobs 1"
    line = f"{words} --presets baseline,rag_baseline --instances steergraph__pantry-labels"
    first = golden.say(line)
    assert first.code == 0
    sample = "runs/g/instances/rag_baseline/steergraph__pantry-labels"
    record = json.loads(Path(sample, "record.json").read_text(encoding="utf-8"))
    run = json.loads(Path("runs/g/run.json").read_text(encoding="utf-8"))
    for name in ("uid", "started"):  # of this run alone
        run.pop(name, None)
    golden.check(
        "bench-swebench.txt",
        first,
        golden.say(line),
        as_json(json.loads(golden.say(f"{line} --json").out)),
        golden.listing("runs"),
        "--- run.json",
        as_json(run),
        "--- record.json",
        as_json(record),
        "--- summary.json",
        golden.record("runs/g/summary.json"),
        text("runs/g/predictions/baseline.jsonl"),
        text("runs/g/predictions/rag_baseline.jsonl"),
        "--- trace.jsonl, its shape",
        shapes(Path(sample, "sample-0", "trace.jsonl").read_text(encoding="utf-8").splitlines()),
    )
    golden.check(
        "report.txt",
        golden.say("report runs/g --dataset rows.jsonl --repos . --against baseline"),
        golden.say("report runs/g --against nobody"),
        golden.say("report runs/g/predictions/baseline.jsonl --out of-a-file"),
        golden.say("report runs/g --trajectories paths"),
        golden.listing("report"),
        golden.listing("paths"),
        timeless(text("report/report.md")),
        timeless(text("of-a-file/report.md")),
    )
    page = Path("report/instances/steergraph__pantry-labels.html").read_text(encoding="utf-8")
    page = re.sub(r"(?<=<dt>seconds</dt><dd>)[\d.]+", "...", page)
    golden.check("report-page.html", re.sub(r"<style>.*?</style>", "<style></style>", page, flags=re.DOTALL))


def test_retrieval_is_measured(golden: Golden) -> None:
    said = golden.say("bench retrieval --dataset rows.jsonl --repos . --jobs 1 --out ranked")
    rankings = Path("ranked/rankings.jsonl").read_text(encoding="utf-8").splitlines()
    keys = [" ".join(json.loads(line)) for line in rankings]
    golden.check("bench-retrieval.txt", said, golden.listing("ranked"), *keys)


def test_gold_that_cannot_be_graded(golden: Golden) -> None:
    columns = {"eval_script": "true", "log_parser": "parse_log_pytest", "eval_type": "pass_and_fail", "image": "none"}
    rows = [json.loads(line) | columns for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()]
    Path("graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    golden.check(
        "eval.txt",
        golden.say("eval --gold --dataset graded.jsonl --instances nope"),
        golden.say("eval --predictions none.jsonl --dataset graded.jsonl"),
        golden.say("eval --predictions tilt.json --dataset graded.jsonl"),
        golden.say("eval --gold --dataset graded.jsonl --repos nowhere"),
        golden.say("eval --gold --dataset graded.jsonl --specs none.json"),
    )


@pytest.mark.slow
def test_a_sweep(golden: Golden) -> None:
    Path("small.yaml").write_text(SWEEP, encoding="utf-8")
    line = "lab sweep --out sweep --tasks training.tasks:POCKET --settings small.yaml --cells cells/pocket.yaml"
    first = golden.say(line)
    assert golden.say(line).code == 0
    golden.check("lab-sweep.txt", first, golden.listing("sweep"), text("cells/pocket.yaml"))
    assert first.out.strip() == Path("sweep/sweep.md").read_text(encoding="utf-8").strip()


@pytest.mark.slow
def test_switching(golden: Golden) -> None:
    Path("small.yaml").write_text("cases: 2\n", encoding="utf-8")
    said = golden.say("lab switching --out switching --tasks training.tasks:POCKET --settings small.yaml")
    golden.check("lab-switching.txt", said, golden.listing("switching"))
    assert said.out.strip() == Path("switching/switching.md").read_text(encoding="utf-8").strip()


@pytest.mark.slow
def test_routers_are_measured(golden: Golden) -> None:
    said = golden.say("route-bench --no-model --out routers.json")
    text = f"{said}\n{golden.record('routers.json')}"
    # One question more or less, which another processor's rounding can decide, moves a p-value by a fifth.
    text = re.sub(r"0\.\d{3,}( *)│", lambda p_value: f"{'p':<{len(p_value[0]) - 1}}│", text)
    golden.check("route-bench.txt", re.sub(r'"against_baseline": 0\.\d+', '"against_baseline": "p"', text))
