"""`steergraph report`: what is counted and what is not, what is compared, what is escaped, bad input in one line."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from batch_help import batch, pantry_rows, repairs, write_dataset
from report_help import EVIL, GOLD_LOW, graded, report_run

from steergraph.base.errors import InputError
from steergraph.cli import main
from steergraph.evals.reports.charts import bars, intervals, stacked
from steergraph.evals.reports.grades import Grades
from steergraph.evals.reports.measure import Measure
from steergraph.evals.reports.pages import diff_lines, escaped, file_name
from steergraph.evals.reports.read import Variant, read_variants
from steergraph.evals.reports.samples import read_samples
from steergraph.evals.reports.table import baselines, compare_variants, summarise
from steergraph.evals.reports.trajectories import trajectory
from steergraph.evals.stats import holm, wilson
from steergraph.evals.swebench.datasets import load_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A batch run with two presets on three instances, the dataset with gold, and a grading of some of it."""
    return report_run(tmp_path_factory.mktemp("report"))


def facts_of(run, notes=None, **given):
    variants = read_variants([str(run.folder)], [] if notes is None else notes)
    measure = Measure(given.get("dataset"), given.get("repos"), given.get("grades"))
    return variants, {v.label: {name: measure.of(e, []) for name, e in v.entries.items()} for v in variants}


def test_ungraded_is_never_unresolved(run):
    variants, facts = facts_of(run, grades=Grades(run.grades), dataset=str(run.dataset))
    one, other = (summarise(v, facts[v.label]) for v in variants)
    assert (one.label, other.label) == ("rag_baseline", "auto")
    # stock is resolved, fridge is ungraded, labels is empty; of auto's nothing was graded but what is empty.
    assert (one.resolved.hits, one.resolved.n, one.ungraded) == (1, 2, 1)
    assert (other.resolved.hits, other.resolved.n, other.ungraded) == (0, 1, 2)
    assert one.verdicts == {"resolved": 1, "ungraded": 1}
    without = [summarise(v, facts_of(run)[1][v.label]) for v in variants]
    assert all(s.resolved.n == 0 and s.ungraded == 3 for s in without)
    # They are not known for the same instances, so nothing is compared.
    rows = [row for row in compare_variants(facts) if row.metric == "resolved"]
    assert rows[0].found is None and "not known for the same instances" in rows[0].why and rows[0].said == "not shown"


def test_what_is_counted(run):
    variants, facts = facts_of(run, dataset=str(run.dataset), repos=str(run.repos))
    one = summarise(variants[0], facts["rag_baseline"])
    assert (one.finished, one.expected, one.patched.hits, one.applies.hits, one.parses.hits) == (3, 3, 2, 2, 2)
    assert one.in_context.n == 3 and one.found.hits >= one.edited.hits == 2
    own = facts["rag_baseline"]["steergraph__pantry-stock"]
    assert own.is_gold and own.look.lines.recall == own.look.functions.recall == 1.0 and one.gold == 1
    assert not one.is_gold
    steps = sum(len(s.steps) for e in variants[0].entries.values() for s in read_samples(e))
    assert sum(one.rules.values()) == steps > 0
    assert {mode for _, mode in one.rules} == {"off"}
    records = [json.loads(p.read_text()) for p in run.folder.glob("instances/rag_baseline/*/record.json")]
    assert one.tokens == sum(r["tokens"] for r in records) and one.truncated == sum(r["truncated"] for r in records)


def test_comparisons_are_corrected_over_the_whole_table(run):
    _, facts = facts_of(run, dataset=str(run.dataset))
    rows = compare_variants(facts)
    found = [row.found for row in rows if row.found]
    assert [each.p_corrected for each in found] == pytest.approx(holm([each.p for each in found]))
    assert {row.against for row in rows} == {"rag_baseline"} and {row.label for row in rows} == {"auto"}
    assert {row.against for row in compare_variants(facts, "auto")} == {"auto"}
    with pytest.raises(InputError, match=r"--against nobody: no such variant: there are rag_baseline, auto"):
        compare_variants(facts, "nobody")


def test_variants_of_two_runs_are_held_against_their_own_baselines(run):
    _, facts = facts_of(run)
    arms = dict.fromkeys(("one/baseline", "one/auto", "two/baseline", "two/auto", "alone"), facts["rag_baseline"])
    own = {name: f"{name.split('/')[0]}/baseline" for name in arms if "/" in name}
    pairs = {(row.label, row.against) for row in compare_variants(arms, baselines=own)}
    assert pairs == {
        ("one/auto", "one/baseline"),
        ("two/auto", "two/baseline"),
        ("two/baseline", "one/baseline"),
        ("alone", "one/baseline"),
    }
    # Who names one has them all held against that.
    assert {row.against for row in compare_variants(arms, "two/auto", baselines=own)} == {"two/auto"}
    variants = [run_variant(label, *label.split("/")) for label in own]
    assert baselines(variants) == own


def run_variant(label, of, preset):
    return Variant.model_construct(label=label, run=of, preset=preset)


def test_what_was_wrong_with_an_edit_stands_at_its_own_step(run, tmp_path):
    variants, _ = facts_of(run)
    (sample,) = read_samples(variants[0].entries["steergraph__pantry-labels"])
    assert sample.checked and sample.steps[-1].attempt
    wrong = {index: sample.checked_after(index) for index in (*range(len(sample.steps)), None)}
    assert sum(map(len, wrong.values())) == len(sample.checked) and not wrong[None]
    for index, found in wrong.items():
        assert all(each["attempt"] == sample.steps[index].attempt for each in found)
    assert main(["report", str(run.folder), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "instances" / "steergraph__pantry-labels.html").read_text(encoding="utf-8")
    steps = page.split('<ol class="steps">')[1].split("</ol>")[0].split("</li>")
    told = ['class="small wrong"' in step for step in steps[: len(sample.steps)]]
    assert told == [bool(wrong[index]) for index in range(len(sample.steps))]


def test_a_table_says_what_its_numbers_are_and_no_row_is_without_a_name(run, tmp_path):
    words = ["report", str(run.folder), "--dataset", str(run.dataset), "--repos", str(run.repos)]
    assert main([*words, "--grades", str(run.grades), "--out", str(tmp_path)]) == 0
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert ">It</th>" not in index and not re.search(r"<th[^>]*>\s*</th>", index)
    compared = index.split('id="compared"')[1].split("</section>")[0]
    assert all(unit in compared for unit in (" points<", " tokens<", " s<", " answers<"))
    page = (tmp_path / "instances" / "steergraph__pantry-stock.html").read_text(encoding="utf-8")
    for pre in re.findall(r"<pre(?! class=\"prose\")[^>]*>", page):  # what scrolls sideways
        assert 'tabindex="0"' in pre and "aria-label=" in pre


def test_a_difference_that_is_there_is_shown_and_one_of_other_instances_is_not(run):
    _, facts = facts_of(run)
    base = facts["rag_baseline"]["steergraph__pantry-stock"]
    many = [f"i-{n}" for n in range(12)]
    arms = {
        "baseline": {
            name: base.model_copy(update={"resolved": False, "tokens": 10 + n}) for n, name in enumerate(many)
        },
        "better": {name: base.model_copy(update={"resolved": True, "tokens": 50 + n}) for n, name in enumerate(many)},
        "fewer": {name: base.model_copy(update={"resolved": True}) for name in many[:6]},
        "gold": {name: base.model_copy(update={"resolved": True}) for name in many},
    }
    rows = {(row.metric, row.label): row for row in compare_variants(arms, gold=["gold"])}
    assert rows["resolved", "better"].said == "better" and rows["resolved", "better"].found.wins == 12
    assert rows["tokens", "better"].said == "more" and rows["seconds", "better"].said == "not shown"
    assert "not known for the same instances: 6 and 12" in rows["resolved", "fewer"].why
    assert rows["resolved", "gold"].found is None and "gold patch" in rows["resolved", "gold"].why


def test_the_pages(run, tmp_path, capsys):
    words = ["report", str(run.folder), "--dataset", str(run.dataset), "--repos", str(run.repos)]
    assert main([*words, "--grades", str(run.grades), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "index.html" in said and "3 pages" in said
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = (tmp_path / "instances" / "steergraph__pantry-stock.html").read_text(encoding="utf-8")
    assert "same as gold" in index and "rag_baseline" in index and "1 ungraded" in index
    for text in ("Expected: `low_items", "patch writing", "steering off", "Context: ", "the end of the test log", "OK"):
        assert text in page, text
    for text in (index, page):
        assert "<script" not in text and not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
        assert "@import" not in text and "url(" not in text and "prefers-color-scheme: dark" in text
        assert text.count("<svg") == text.count("<desc id=")
        ids = re.findall(r' id="([^"]*)"', text)
        assert len(set(ids)) == len(ids)
    assert index.count("<svg") >= 4
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith("# Report on r\n") and "| rag_baseline (1 same as gold) | 3 / 3 | 1 / 2 (" in markdown
    assert not list(tmp_path.rglob(".*"))
    # Nothing but the index and the report's own files, and the same again gives the same.
    assert main([*words, "--grades", str(run.grades), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == index


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


def test_text_from_models_and_repositories_is_escaped(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    rows = pantry_rows("stock")
    rows[0]["problem_statement"] += EVIL
    rows[0]["patch"] = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-{EVIL}\n+a\n"
    rows[0]["repo"] = "steergraph/pantry"
    _, folder = batch(tmp_path, rows, lambda request: EVIL + repairs(request))
    evil = tmp_path / "evil.jsonl"
    row = {"instance_id": f"x{EVIL}".replace("/", ""), "model_patch": EVIL, "model_name_or_path": EVIL}
    evil.write_text(json.dumps(row) + "\n", encoding="utf-8")
    dataset = write_dataset(tmp_path / "d.jsonl", rows)
    out = tmp_path / "out"
    assert main(["report", str(folder.path), str(evil), "--dataset", str(dataset), "--out", str(out)]) == 0
    pages = [out / "index.html", *(out / "instances").iterdir()]
    assert len(pages) == 3
    seen = ""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        parser = Tags()
        parser.feed(text)
        assert not parser.tags & {"script", "img", "iframe", "object", "b"}, page
        assert not [name for name in parser.attributes if name.startswith("on")], page
        assert not set("\u202e\u2066\x1b\x07\x00\u200b") & set(text), page
        seen += "".join(parser.text)
    assert "<script>alert(1)</script>" in seen and "\\u{202e}" in seen and "\\u{1b}" in seen
    markdown = (out / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown and "\u202e" not in markdown and "\x1b" not in markdown
    assert not re.search(r"(?<!\\)\]\(", markdown) and not re.search(r"(?<!\\)`", re.sub(r"`\w+`", "", markdown))


def test_names_of_pages_are_plain_and_each_its_own():
    names = ["a__b-1", "a/../b", "../../etc", "", "a:b", "a;b", "x" * 400, "x" * 401, ".hidden", "ä", "\ud800"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,150}\.html", file) for file in files), files
    assert files[0] == "a__b-1.html"


def test_diffs_and_markdown_and_charts_take_anything():
    kinds = [kind for kind, _ in diff_lines("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-- a\n+++ b\n c\n")]
    assert kinds == ["head", "head", "head", "hunk", "del", "add", "same"]
    assert "and 300,000 characters more" in list(diff_lines("x" * 500_000))[-1][1]
    assert escaped("a|b`<i>[x](y)\n\u202e") == "a\\|b\\`&lt;i&gt;\\[x\\](y) \\\\u{202e}"
    for chart in (
        intervals("a", EVIL, [(EVIL, wilson(1, 3), EVIL), ("none", None, "-")]),
        stacked("b", EVIL, [(EVIL, {EVIL: 3, "x": 0}), ("none", {})], {EVIL: "c1"}),
        bars("c", EVIL, [(EVIL, 3.0, EVIL), ("none", None, "-")]),
    ):
        parser = Tags()
        parser.feed(str(chart))
        assert parser.tags <= {"svg", "title", "desc", "g", "defs", "path", "use", "text"} and "nan" not in str(chart)
        ids = re.findall(r' id="([^"]*)"', chart)
        assert len(set(ids)) == len(ids) and set(re.findall(r'href="#([^"]*)"', chart)) <= set(ids)
        assert not re.search(r"#[0-9a-f]{6}\b|url\(|http", chart), "colours are the page's, and nothing is fetched"
        assert 'role="img"' in chart and "<title id=" in chart and "<desc id=" in chart
    assert "<svg" in intervals("a", "t", []) and "<svg" in stacked("b", "t", [], {}) and "<svg" in bars("c", "t", [])


def test_a_verdict_on_another_patch_is_none(run, tmp_path):
    grades = Grades(run.grades)
    entry = read_variants([str(run.folder)], [])[0].entries["steergraph__pantry-stock"]
    assert grades.of(entry.model, entry.instance_id, entry.patch).verdict.verdict == "resolved"
    assert grades.of(entry.model, entry.instance_id, entry.patch + "\n") is None
    assert grades.of("..", "..", entry.patch) is None and grades.of(entry.model, "../x", "") is None
    with pytest.raises(InputError, match="no logs of a grading"):
        Grades(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Grades(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [('{"i": {"resolved": true}}', "resolved"), ('{"i": {"resolved": false}}', "unresolved"), (None, "not_applied")],
)
def test_the_official_harness_logs_are_read_too(tmp_path, said, verdict):
    folder = graded(tmp_path, "m", "i", None)
    (folder / "patch.diff").write_text("the patch")
    (folder / "run_instance.log").write_text("" if said else ">>>>> Patch Apply Failed:\nerror")
    if said:
        (folder / "report.json").write_text(said)
    assert Grades(tmp_path).of("m", "i", "the patch").verdict.verdict == verdict
    assert Grades(tmp_path).of("m", "i", "another") is None


def test_gold_used_as_predictions_is_labelled_and_compared_with_nothing(run, tmp_path, capsys):
    gold = tmp_path / "mine.jsonl"
    rows = [json.loads(line) for line in run.dataset.read_text().splitlines()]
    names = ("instance_id", "patch")
    gold.write_text(
        "".join(
            json.dumps(
                dict(zip(("instance_id", "model_patch"), (r[n] for n in names), strict=True))
                | {"model_name_or_path": "mine"}
            )
            + "\n"
            for r in rows
        )
    )
    assert (
        main(["report", str(run.folder), str(gold), "--dataset", str(run.dataset), "--out", str(tmp_path / "o")]) == 0
    )
    assert "mine is the gold patch used as predictions: no result" in capsys.readouterr().out
    markdown = (tmp_path / "o" / "report.md").read_text()
    assert "| mine (the gold patch) |" in markdown
    assert "| applies | mine | rag_baseline | the gold patch used as predictions is no result |" in markdown


def line_of(capsys, *words):
    assert main(["report", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_bad_input_is_one_line(run, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no run folder: its run.json is missing or damaged" in line_of(capsys, empty)
    (empty / "run.json").write_text('{"presets": 3}')
    assert "is not one of `steergraph bench swebench`" in line_of(capsys, empty)
    (empty / "run.json").write_text('{"presets": ["auto"], "instances": {"a": "0"}}')
    assert "no finished instance to report" in line_of(capsys, empty)
    assert "no such run" in line_of(capsys, tmp_path / "nowhere")
    assert "name a run's folder" in line_of(capsys)
    assert "takes no runs" in line_of(capsys, run.folder, "--study", empty)
    assert "no such file" in line_of(capsys, run.folder, "--dataset", tmp_path / "no.jsonl")
    assert "give --dataset too" in line_of(capsys, run.folder, "--repos", tmp_path)
    assert "no such variant" in line_of(capsys, run.folder, "--against", "x", "--out", tmp_path / "o")
    alone = run.folder / "predictions" / "auto.jsonl"
    assert "no such variant" in line_of(capsys, alone, "--against", "x", "--out", tmp_path / "o")
    (tmp_path / "file").write_text("")
    assert "cannot write into" in line_of(capsys, run.folder, "--out", tmp_path / "file" / "x")
    cut = tmp_path / "cut.json"
    cut.write_text('[{"instance_id": "a", "model_pa')
    assert "cut off or not JSON" in line_of(capsys, cut)


def test_what_is_damaged_is_a_note_and_the_rest_is_reported(run, tmp_path, capsys):
    predictions = tmp_path / "p.jsonl"
    lines = (run.folder / "predictions" / "auto.jsonl").read_text().splitlines(keepends=True)
    predictions.write_text("".join(lines[:2]) + lines[2][:40] + "\n" + '{"instance_id": 3, "model_patch": ""}\n')
    copy = tmp_path / "copy"
    for file in run.folder.rglob("*"):
        if file.is_file() and file.name != "lock":
            target = copy / file.relative_to(run.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    (copy / "instances/auto/steergraph__pantry-stock/record.json").write_text('{"status": "patch')
    (copy / "instances/auto/steergraph__pantry-fridge/sample-0/outcome.json").write_text(
        '{"steps": [{"specialist": 1}]}'
    )
    trace = copy / "instances/auto/steergraph__pantry-labels/sample-0/trace.jsonl"
    odd = ['{"event": "retrieved", "passages": [3, {}], "why": 1}', '{"event": "edit", "problems": 7}', "[]", "\x00{"]
    trace.write_bytes("\n".join(odd).encode() + b"\n" + trace.read_bytes()[:-30])
    assert main(["report", str(copy), str(predictions), "--out", str(tmp_path / "o")]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 5, notes
    for words in (
        "record.json: damaged, left out",
        "outcome.json: damaged, its steps are not shown",
        "1 of 3 instances",
    ):
        assert sum(words in note for note in notes) == 1
    assert sum("p.jsonl line 3: cut off" in n or "p.jsonl line 4: its instance_id" in n for n in notes) == 2
    assert "damaged" in (tmp_path / "o" / "index.html").read_text()


def test_trajectories_have_the_documented_fields(run, tmp_path, capsys):
    assert main(["report", str(run.folder), "--trajectories", str(tmp_path)]) == 0
    assert "wrote 6 trajectories" in capsys.readouterr().out
    preds = json.loads((tmp_path / "rag_baseline" / "preds.json").read_text())
    rows = [json.loads(line) for line in (run.folder / "predictions" / "rag_baseline.jsonl").read_text().splitlines()]
    assert preds == {row["instance_id"]: row for row in rows}
    for name in preds:
        found = json.loads((tmp_path / "rag_baseline" / name / f"{name}.traj.json").read_text())
        assert found["trajectory_format"] == "mini-swe-agent-1.1"
        info, messages = found["info"], found["messages"]
        assert set(info) >= {"model_stats", "config", "mini_version", "exit_status", "submission"}
        assert info["model_stats"] == {
            "instance_cost": 0.0,
            "api_calls": sum(m["role"] == "assistant" for m in messages),
        }
        for part in ("agent", "model", "environment"):
            assert isinstance(info["config"][part], dict) and isinstance(info["config"][f"{part}_type"], str)
        assert all(isinstance(m["role"], str) and isinstance(m["content"], str) for m in messages)
        for message in messages:
            if message["role"] == "assistant":
                assert {"actions", "cost", "decision", "receipt"} <= set(message["extra"])
                assert isinstance(message["extra"]["actions"], list)
        assert messages[0]["role"] == "system" and messages[1]["role"] == "user"
        last = messages[-1]
        assert last["role"] == "exit" and last["extra"]["exit_status"] == info["exit_status"]
        assert last["extra"]["submission"] == info["submission"] == preds[name]["model_patch"]
    stock = json.loads(
        (tmp_path / "rag_baseline/steergraph__pantry-stock/steergraph__pantry-stock.traj.json").read_text()
    )
    assert stock["info"]["exit_status"] == "Submitted"
    entry = read_variants([str(run.folder / "predictions" / "auto.jsonl")], [])[0].entries["steergraph__pantry-labels"]
    assert trajectory(entry, None)["messages"][-1]["role"] == "exit"


def test_a_gold_column_that_holds_no_diff_is_not_known(run, tmp_path):
    rows = [
        json.loads(line) | {"patch": patch}
        for line, patch in zip(run.dataset.read_text().splitlines(), ("", "canary", "x"), strict=True)
    ]
    _, facts = facts_of(run, dataset=str(write_dataset(tmp_path / "d.jsonl", rows)))
    assert {each.edited for each in facts["auto"].values()} == {None}


def test_two_runs_with_one_preset_are_told_apart(run, tmp_path):
    variants = read_variants([str(run.folder), str(run.folder / "predictions" / "auto.jsonl")], [])
    assert [v.label for v in variants] == ["rag_baseline", "auto", "steergraph-scripted-auto"]
    other = tmp_path / "other"
    other.symlink_to(run.folder)
    labels = [v.label for v in read_variants([str(run.folder), str(other)], [])]
    assert len(set(labels)) == 4 and labels[0].startswith("rag_baseline (")


def test_the_dataset_of_the_fixture_is_one(run):
    assert len(load_dataset(str(run.dataset)).rows) == 3 and GOLD_LOW in run.dataset.read_text().replace("\\n", "\n")
    assert isinstance(run.folder, Path)
