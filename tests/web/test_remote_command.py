"""`steergraph serve` as a process, and `ask`, `run` and build_graph over its address."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from remote_help import Scripted, chunk, says, serving

from steergraph import build_graph
from steergraph.cli import main
from steergraph.engine.local import LocalEngine
from steergraph.vectors.extract.first_use import ensure_vectors
from steergraph.vectors.library import Library

ROOT = Path(__file__).resolve().parents[2]
SERVER = [sys.executable, "-m", "steergraph", "serve"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def outcome(folder: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((Path(folder) / "outcome.json").read_text())
    return found


def test_ask_over_a_plain_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERGRAPH_API_KEY", "sk-secret")
    with Scripted(says(chunk("The answer is (B)", "stop"))) as address:
        code = main(["ask", "Which one?", "--choices", "red", "blue", "--model", f"{address}#m", "--out", "run"])
    assert code == 0 and outcome("run")["answer"] == "B"
    assert outcome("run")["provenance"]["model"]["name"] == "m"  # type: ignore[index]
    written = "".join(path.read_text(errors="replace") for path in Path("run").rglob("*") if path.is_file())
    assert "sk-secret" not in written + capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("http://127.0.0.1:9/v1?retries=0#m", "no connection"),
        ("http://user:pw@127.0.0.1/v1", "holds a user or password"),
        ("http://127.0.0.1:9/v1?colour=red", "colour"),
    ],
)
def test_a_wrong_address_is_one_line_and_code_2(model: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "Why?", "--model", model, "--out", "run"]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and "pw@" not in told
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "put an API key into STEERGRAPH_API_KEY"),
        (["--host", "203.0.113.7"], "put an API key"),
        (["--model", "http://localhost:1/v1"], "can't be served again"),
        (["--vectors", "nowhere", "--port", "0"], "no such folder of vectors"),
    ],
)
def test_serve_refuses_before_it_listens(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEERGRAPH_API_KEY", raising=False)
    assert main(["serve", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_serve_is_a_process_that_ends_when_told(tmp_path: Path) -> None:
    command = [*SERVER, "--port", "0", "--name", "mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stderr is not None
            line = server.stdout.readline()
            address = line.split(" at ")[1].strip()
            assert line.startswith("serving mine at http://127.0.0.1:") and address.endswith("/v1#mine")
            assert "vectors: none; key: none" in server.stdout.readline()
            assert main(["ask", "What is 1 + 1?", "--model", address, "--out", "run"]) in (0, 1)
            server.send_signal(signal.SIGINT)
            assert server.wait(30) in (0, 130) and "Traceback" not in server.stderr.read()
        finally:
            server.kill()


@pytest.mark.slow
def test_a_server_that_is_terminated_ends_its_streams() -> None:
    command = [*SERVER, "--port", "0", "--name", "mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stderr is not None
            url = server.stdout.readline().split(" at ")[1].strip().removesuffix("#mine") + "/chat/completions"
            body = {"model": "mine", "stream": True, "min_tokens": 900, "messages": [{"role": "user", "content": "a"}]}
            with httpx2.stream("POST", url, json=body, trust_env=False, verify=False, timeout=30) as answer:
                lines = answer.iter_lines()
                next(lines)
                server.send_signal(signal.SIGTERM)
                told = [line for line in lines if line.startswith("data: ")]
            assert json.loads(told[-1].removeprefix("data: "))["error"]["code"] == 503
            assert server.wait(30) == -signal.SIGTERM and "Traceback" not in server.stderr.read()
        finally:
            server.kill()


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """pocket behind a server, with the vectors of the default roster."""
    folder = tmp_path_factory.mktemp("vectors")
    with LocalEngine("pocket") as engine:
        domains = ("bug_analysis", "test_reasoning", "code_reading", "patch_writing")
        Library(ensure_vectors(engine.loaded, dict.fromkeys(domains))).save(folder)
        with serving(engine, folder) as address:
            yield address, folder


@pytest.mark.slow
def test_the_graph_runs_steered_over_a_server(pocket: tuple[str, Path]) -> None:
    address, folder = pocket
    common = ["run", "--repo", str(ROOT / "examples" / "pantry.bundle"), "--max-repairs", "0"]
    common += ["--issue", str(ROOT / "examples" / "issues" / "stock.md"), "--vectors", str(folder)]
    here, there = main([*common, "--out", "here"]), main([*common, "--out", "there", "--model", address])
    assert here == there
    one, two = outcome("here"), outcome("there")
    assert one["patch"] == two["patch"] and one["status"] == two["status"]
    for ours, theirs in zip(one["steps"], two["steps"], strict=True):  # type: ignore[call-overload]
        assert ours["text"] == theirs["text"] and ours["receipt"] == theirs["receipt"]
        assert ours["decision"] == theirs["decision"] and ours["tokens"] == theirs["tokens"]
    assert [step["decision"]["mode"] for step in two["steps"]][:2] == ["on", "on"]  # type: ignore[index,attr-defined]


@pytest.mark.slow
async def test_build_graph_takes_an_address(pocket: tuple[str, Path]) -> None:
    graph = build_graph(model=pocket[0])
    found = await graph.ainvoke({"kind": "reasoning", "problem": "What is 2 + 2?", "choices": ["3", "4"]})
    assert found["status"] == "answered"


@pytest.mark.slow
def test_the_example_speaks_here_and_over_the_server(pocket: tuple[str, Path]) -> None:
    address, folder = pocket
    said = []
    for arguments in (["pocket"], [address, str(folder)]):
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "steered_chat.py"), *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    plain, steered, half = (part.split("\n", 1)[1] for part in said[0].split("--- ")[1:])
    assert "relative dose 0.40" in steered and "relative dose 0.20" in half and "dose" not in plain


@pytest.mark.slow
def test_building_the_parser_imports_nothing_heavy() -> None:
    code = "import steergraph.cli.serve, sys; sys.exit(not {'torch', 'fastapi', 'openai'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
