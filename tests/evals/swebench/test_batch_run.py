"""A batch run: one row for every instance, exit statuses, going on, what harnesses read."""

import json
import subprocess
import sys
import threading

import pytest
from batch_help import EXAMPLES, batch, pantry_rows, predictions, repairs, write_dataset
from git_repos import make_repository

from steergraph.base.errors import InputError
from steergraph.cli import main
from steergraph.engine.scripted import ScriptedEngine
from steergraph.evals.swebench.folder import BatchFolder
from steergraph.evals.swebench.repos import Repos


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path_factory.getbasetemp() / "batch-cache"))


def test_one_row_for_every_instance_and_a_status_for_every_end(tmp_path):
    rows = pantry_rows("stock", "fridge", "labels")
    lost = {**rows[0], "instance_id": "a__nowhere-1", "repo": "a/nowhere"}
    unknown = {**rows[0], "instance_id": "steergraph__pantry-old", "base_commit": "1" * 40}
    silent = {**rows[0], "instance_id": "steergraph__pantry-silent", "problem_statement": ""}
    rows = [*rows, lost, unknown, silent]
    summary, folder = batch(tmp_path, rows)
    assert [r["instance_id"] for r in predictions(folder)] == [r["instance_id"] for r in rows]
    assert all(set(r) == {"instance_id", "model_patch", "model_name_or_path"} for r in predictions(folder))
    assert {r["model_name_or_path"] for r in predictions(folder)} == {"steergraph-scripted-rag_baseline"}
    records = [folder.record("rag_baseline", r["instance_id"]) for r in rows]
    assert [r["status"] for r in records] == [
        "patched_untested",
        "patched_untested",
        "no_edit",
        "error",
        "error",
        "error",
    ]
    assert predictions(folder)[0]["model_patch"].startswith("diff --git a/pantry/stock.py b/pantry/stock.py")
    for record, words in zip(
        records[3:], ("no repository of a/nowhere", "no commit 1111", "problem_statement is empty"), strict=True
    ):
        assert words in record["error"] and "\n" not in record["error"] and record["patch"] == ""
    assert summary["rag_baseline"]["instances"] == 6 and summary["rag_baseline"]["statuses"]["error"] == 3
    assert not list(folder.path.rglob("checkpoint.sqlite*"))
    outcome = folder.outcome("rag_baseline", rows[0]["instance_id"], 0)
    assert outcome["steps"] and outcome["provenance"]["versions"] and outcome["source"]["kind"] == "greedy"


@pytest.mark.parametrize(
    ("reply", "settings", "status"),
    [
        (lambda r: "no block", {}, "no_edit"),
        (lambda r: "pantry/stock.py\n<<<<<<< SEARCH\nnowhere\n=======\nx\n>>>>>>> REPLACE", {}, "edit_did_not_apply"),
        (repairs, {"test": "false", "unsafe_tests": True}, "checks_failed"),
        (repairs, {"max_tokens": 3}, "out_of_budget"),
    ],
)
def test_why_a_patch_is_empty(reply, settings, status, tmp_path):
    _, folder = batch(tmp_path, pantry_rows("stock"), reply, **settings)
    (row,) = predictions(folder)
    assert row["model_patch"] == ""
    assert folder.record("rag_baseline", row["instance_id"])["status"] == status
    trace = folder.sample("rag_baseline", row["instance_id"], 0) / "trace.jsonl"
    assert json.loads(trace.read_text().splitlines()[-1]) == {"event": "outcome", "status": status, "patch": None}


@pytest.mark.parametrize(("ranker", "word"), [("fields", "matches: "), ("rank_bm25", "its file")])
def test_the_ranker_that_was_chosen_finds_the_files(ranker, word, tmp_path):
    _, folder = batch(tmp_path, pantry_rows("stock"), ranker=ranker)
    trace = (folder.sample("rag_baseline", "steergraph__pantry-stock", 0) / "trace.jsonl").read_text().splitlines()
    (passages,) = (e["passages"] for e in map(json.loads, trace) if e["event"] == "retrieved")
    assert passages and word in passages[0]["why"][0]


def test_an_engine_that_fails_on_one_instance_fails_no_other(tmp_path):
    def reply(request):
        if "keeps" in request.messages[1].content and "fridge" in request.messages[1].content.lower():
            raise RuntimeError("CUDA out of memory\nwith a\x1b[31mlong trace")
        return repairs(request)

    rows = pantry_rows("stock", "fridge")
    engine = ScriptedEngine(reply)
    _, folder = batch(tmp_path, rows, engine=engine)
    stock, fridge = (folder.record("rag_baseline", r["instance_id"]) for r in rows)
    assert stock["status"] == "patched_untested" and fridge["status"] == "error"
    assert fridge["error"] == "RuntimeError: CUDA out of memory with a?[31mlong trace"
    # As it is it stays; asked to, the errors alone are done anew.
    asked = len(engine.requests)
    batch(tmp_path, rows, engine=engine)
    assert len(engine.requests) == asked
    _, folder = batch(tmp_path, rows, retry_errors=True)
    assert [folder.record("rag_baseline", r["instance_id"])["status"] for r in rows] == [
        "patched_untested",
        "patched_untested",
    ]


def test_what_is_finished_is_not_done_again_and_more_can_be_asked_for(tmp_path):
    engine = ScriptedEngine(repairs)
    first, second = pantry_rows("stock", "fridge")
    batch(tmp_path, [first], engine=engine)
    before = len(engine.requests)
    seen = []
    batch(tmp_path, [first, second], engine=engine, finished=lambda r, old: seen.append((r["instance_id"], old)))
    assert seen == [(first["instance_id"], True), (second["instance_id"], False)]
    assert len(engine.requests) == 2 * before
    _, folder = batch(tmp_path, [first, second], engine=engine, presets=["rag_baseline", "baseline"])
    assert len(predictions(folder, "baseline")) == 2
    with pytest.raises(InputError, match=r"begun with samples 1, not 2"):
        batch(tmp_path, [first], samples=2)
    with pytest.raises(InputError, match=r"row of .*stock has changed"):
        batch(tmp_path, [{**first, "problem_statement": "another"}])


def test_a_run_whose_model_could_not_be_loaded_is_begun_anew(tmp_path):
    folder = BatchFolder.open(tmp_path, "r")
    asked = {"presets": ["auto"], "instances": {"a": "1"}, "command": "one", "model": "pocked"}
    folder.begin(asked)
    begun = folder.begin({**asked, "model": "pocket"})
    assert begun["model"] == "pocket"
    folder.keep_model({"name": "pocket", "revision": "1"})
    assert folder.begin({**asked, "model": "pocket"})["uid"] == begun["uid"]
    with pytest.raises(InputError, match='begun with model "pocket", not "other"'):
        folder.begin({**asked, "model": "other"})
    with pytest.raises(InputError, match=r"at revision 1, .*and this is pocket at revision 2"):
        folder.keep_model({"name": "pocket", "revision": "2"})


def test_the_summary_keeps_what_earlier_commands_said(tmp_path):
    rows = pantry_rows("stock")
    batch(tmp_path, rows, lambda r: "no", presets=["baseline"])
    _, folder = batch(tmp_path, rows, lambda r: "no", presets=["rag_baseline"])
    assert set(json.loads((folder.path / "summary.json").read_text())) == {"baseline", "rag_baseline"}


def test_a_second_process_is_refused(tmp_path):
    folder = BatchFolder.open(tmp_path, "r")
    script = "import sys; from steergraph.base.files import held; from pathlib import Path\n"
    script += "with held(Path(sys.argv[1]), 'taken'): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(folder.path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is working on this run"):
            batch(tmp_path, pantry_rows("stock"))
        other.kill()
    batch(tmp_path, pantry_rows("stock"))


@pytest.mark.slow
def test_the_harness_loads_what_is_written(tmp_path, monkeypatch):
    (row,) = pantry_rows("stock")
    _, folder = batch(tmp_path, [row, {**row, "instance_id": "x-1", "repo": "a/b"}])
    (tmp_path / "neutral").mkdir()
    monkeypatch.chdir(tmp_path / "neutral")  # its utils read a .env from where they are started
    code = (
        "import sys, json; from swebench.harness.utils import get_predictions_from_file as load;"
        "print(json.dumps(load(sys.argv[1], 'unused', 'test')))"
    )
    path = str(folder.path / "predictions" / "rag_baseline.jsonl")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == predictions(folder)
    assert [bool(row["model_patch"]) for row in loaded] == [True, False]


def test_nobody_waits_for_another_repository(tmp_path, monkeypatch):
    """One repository takes for ever to open: the others' instances are done meanwhile, in one place in flight."""
    from steergraph.evals.swebench.worker import Worker

    make_repository(tmp_path / "far", {"a.py": "x = 1\n"})
    (tmp_path / "steergraph__pantry.bundle").write_bytes((EXAMPLES / "pantry.bundle").read_bytes())
    rows = pantry_rows("stock", "fridge")
    far = {**rows[0], "instance_id": "far__far-1", "repo": "far/far", "base_commit": "HEAD"}
    others, real = threading.Event(), Worker.prepare

    def slow(self, unit):
        if unit.instance_id == "far__far-1":
            assert others.wait(60), "the others were not done meanwhile"
        return real(self, unit)

    monkeypatch.setattr(Worker, "prepare", slow)
    done = []

    def finished(record, before):
        done.append(record["instance_id"])
        if len(done) == 2:
            others.set()

    _, folder = batch(tmp_path / "runs", [far, *rows], jobs=1, repos=str(tmp_path), finished=finished)
    assert done[2] == "far__far-1"
    assert len(predictions(folder)) == 3


@pytest.mark.slow
def test_gold_reaches_nothing_that_a_batch_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dataset = write_dataset(tmp_path / "rows.jsonl", pantry_rows("stock"))
    words = ["bench", "swebench", "--dataset", str(dataset), "--repos", str(EXAMPLES), "--run-id", "c"]
    assert main([*words, "--max-repairs", "0", "--max-tokens", "60", "--presets", "rag_baseline"]) == 0
    written = [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert {p.name for p in written} >= {"run.json", "record.json", "outcome.json", "trace.jsonl", "rag_baseline.jsonl"}
    said = capsys.readouterr()
    for text in (said.out.encode(), said.err.encode(), *(p.read_bytes() for p in written)):
        assert b"canary-" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--run-id", "../x"], "--run-id"),
        (["--run-id", ".hidden"], "--run-id"),
        (["--presets", "best"], "no preset called 'best'"),
        (["--presets", ","], "names none"),
        (["--repos", "/no/such/folder"], "no such folder"),
        (["--repos", "https://u:p4ss@host/x"], "needs {repo}"),
        (["--instances", "pantry-1"], "no instance 'pantry-1' among 1; the nearest are steergraph__pantry-stock"),
        (["--state", "mysql://u:p4ss@h/d"], "mysql://..."),
        (["--state", "postgresql://u:p4ss/word@h:x/d"], "percent-encoded"),
        (["--roster", "/no/such"], "cannot read it"),
    ],
)
def test_bad_words_are_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dataset = write_dataset(tmp_path / "rows.jsonl", pantry_rows("stock"))
    assert main(["bench", "swebench", "--dataset", str(dataset), "--repos", str(EXAMPLES), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "p4ss" not in error
    assert not (tmp_path / "runs").exists()


def test_where_repositories_are(tmp_path):
    for name in ("a__b.bundle", "c/d", "e.git"):
        (tmp_path / name).mkdir(parents=True)
    repos = Repos(str(tmp_path))
    found = [repos.of(name) for name in ("a/b", "c/d", "x/e", "x/y", "")]
    assert found == [str(tmp_path / "a__b.bundle"), str(tmp_path / "c" / "d"), str(tmp_path / "e.git"), None, None]
    url = Repos("https://me:secret@host/{owner}/{name}.git")
    assert url.of("a/b") == "https://me:secret@host/a/b.git"
    assert "secret" not in url.shown
    assert Repos().of("a/b") == "https://github.com/a/b"
    with pytest.raises(InputError, match="only"):
        Repos("https://host/{repo}/{token}")
