"""Graph state in SQLite and in Postgres: the same tests over both, and a URL's credentials that reach nothing."""

import json
import logging
import threading
from collections import Counter
from urllib.parse import quote, unquote, urlsplit

import postgres_help
import pytest
from batch_help import EXAMPLES, batch, pantry_rows, repairs
from test_batch_kill import dying_at, in_child, logged_run

from steergraph.agents.checkpoints import checked_url, open_checkpoints, shown
from steergraph.agents.graph import build_graph
from steergraph.base.errors import InputError
from steergraph.cli import main
from steergraph.engine.scripted import ScriptedEngine

PASSWORD = "p4ss/w0rd@x"


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path_factory.getbasetemp() / "batch-cache"))


@pytest.fixture(scope="module")
def postgres():
    if url := postgres_help.given():
        yield url
    elif postgres_help.programs():
        with postgres_help.private_cluster(PASSWORD) as url:
            yield url.replace(PASSWORD, quote(PASSWORD, safe=""))
    else:
        pytest.skip(f"no Postgres: none installed, and {postgres_help.VARIABLE} is not set")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def where(request, tmp_path):
    return tmp_path / "checkpoint.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres")


def state_of(where) -> str | None:
    return where if isinstance(where, str) else None


def thread(name: str) -> dict:
    return {"configurable": {"thread_id": name}}


TASK = {"problem": (EXAMPLES / "issues" / "stock.md").read_text(), "repo": str(EXAMPLES / "pantry.bundle")}


def test_a_thread_goes_on_where_it_stopped(where, request):
    name = request.node.name
    engine = ScriptedEngine(repairs)
    with open_checkpoints(where) as saver:
        graph = build_graph(engine=engine, checkpointer=saver)
        graph.invoke({**TASK, "problem": f"{TASK['problem']} é 東"}, thread(name), interrupt_before=["patch_writing"])
    assert len(engine.requests) == 3
    with open_checkpoints(where) as saver:
        graph = build_graph(engine=engine, checkpointer=saver)
        out = graph.invoke(None, thread(name), durability="sync")
        assert out["status"] == "patched_untested" and len(engine.requests) == 4
        assert "é 東" in graph.get_state(thread(name)).values["task"]["problem"]
        saver.delete_thread(name)
        assert not graph.get_state(thread(name)).values


def test_many_threads_at_once(where, request):
    engine = ScriptedEngine(repairs)
    outs: dict[str, str] = {}
    with open_checkpoints(where) as saver:
        graph = build_graph(engine=engine, checkpointer=saver)

        def work(n: int) -> None:
            outs[f"t{n}"] = graph.invoke(TASK, thread(f"{request.node.name}-{n}"), durability="sync")["status"]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        for n in range(4):
            saver.delete_thread(f"{request.node.name}-{n}")
    assert outs == {f"t{n}": "patched_untested" for n in range(4)}


def test_a_batch_leaves_no_state_behind(where, tmp_path):
    summary, folder = batch(tmp_path, pantry_rows("stock"), state=state_of(where), samples=2)
    assert summary["rag_baseline"]["patched"] == 1
    assert not list(folder.path.rglob("*.sqlite*"))
    if state_of(where):
        with open_checkpoints(where) as saver:
            uid = folder_uid(folder)
            assert not [c for c in saver.list(None) if c.config["configurable"]["thread_id"].startswith(uid)]


def folder_uid(folder) -> str:
    return json.loads((folder.path / "run.json").read_text())["uid"]


@pytest.mark.slow
def test_a_killed_batch_goes_on_from_postgres(postgres, tmp_path, monkeypatch):
    import batch_help
    import test_batch_kill

    rows = pantry_rows("stock", "fridge")
    with_state = lambda *a, **k: batch_help.batch(*a, state=postgres, **k)  # noqa: E731
    monkeypatch.setattr(test_batch_kill, "batch", with_state)
    log = tmp_path / "whole.log"
    assert in_child(lambda: logged_run(tmp_path / "whole", log, rows)) == 0
    requests = Counter(log.read_text().split("\n")[:-1])
    for n in (8, 30, 45):
        log = tmp_path / f"{n}.log"

        def first(n=n, log=log):
            dying_at(n, True)
            logged_run(tmp_path / f"at-{n}", log, rows)

        in_child(first)
        assert in_child(lambda n=n, log=log: logged_run(tmp_path / f"at-{n}", log, rows)) == 0
        again = Counter(log.read_text().split("\n")[:-1]) - requests
        assert sum(again.values()) <= 2


@pytest.mark.slow
def test_a_nul_in_a_text_is_no_reason_to_fail(postgres, tmp_path):
    """JSON in Postgres holds no NUL; a repository, an issue or a model may."""
    row = pantry_rows("stock")[0]
    row = {**row, "problem_statement": row["problem_statement"] + "\0 \ufdd0json:"}
    _, folder = batch(tmp_path, [row], lambda r: "So:\0\n" + repairs(r), state=postgres)
    assert folder.record("rag_baseline", row["instance_id"])["status"] == "patched_untested"
    assert "\0" in folder.outcome("rag_baseline", row["instance_id"], 0)["task"]["problem"]


@pytest.mark.slow
def test_credentials_reach_no_file_and_no_line(postgres, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(tmp_path)
    password = urlsplit(postgres).password
    if not password:
        pytest.skip("the server that is given asks for no password")
    secrets = [password, unquote(password)]
    words = ["run", "--repo", str(EXAMPLES / "pantry.bundle"), "--issue", str(EXAMPLES / "issues" / "stock.md")]
    words += ["--max-repairs", "0", "--max-tokens", "40", "--out", "one"]
    assert main([*words, "--state", postgres]) in (0, 1)
    assert not (tmp_path / "one" / "checkpoint.sqlite").exists()
    assert main(["run", "--resume", "one"]) == 2
    assert "--state" in capsys.readouterr().err
    monkeypatch.setenv("STEERGRAPH_STATE", postgres)
    assert main(["run", "--resume", "one"]) in (0, 1)
    host = f"@{urlsplit(postgres).hostname}"
    wrong = postgres.replace(f":{password}@", ":wr0ng@")
    for url in (wrong, postgres.replace(host, "@no.such.host.invalid"), postgres + "?sslmode=never"):
        assert main([*words, "--out", "two", "--state", url]) == 2
    said = capsys.readouterr()
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    for text in (said.out.encode(), said.err.encode(), caplog.text.encode(), *written):
        assert not any(secret.encode() in text for secret in [*secrets, "wr0ng"])
    assert said.err.count("\n") >= 3 and "Traceback" not in said.err


def test_a_url_is_shown_without_what_is_secret():
    assert shown("postgresql://me:pw@h:5/d?password=pw&user=me") == "postgresql://h:5/d"
    assert shown("postgresql:///d?host=/run") == "postgresql:///d"
    for url in ("postgresql://me:p/w@h:port/d", "postgresql://u@h:99999999/d", "postgresql://u@h/d?nonsense=pw"):
        with pytest.raises(InputError) as caught:
            checked_url(url)
        assert "pw" not in str(caught.value) and "p/w" not in str(caught.value)
    with pytest.raises(InputError, match=r"redis://\.\.\."):
        checked_url("redis://u:pw@h")


def test_nobody_there_is_one_line():
    said = r"postgresql://127\.0\.0\.1:1/d: cannot keep graph state there"
    with pytest.raises(InputError, match=said), open_checkpoints("postgresql://u:pw@127.0.0.1:1/d"):
        pass
