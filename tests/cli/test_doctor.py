"""`steergraph doctor`: it finds what is there, says what is missing, and breaks on nothing."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.cli import doctor, main


@contextmanager
def server_that_says(words: bytes) -> Iterator[int]:
    """A server on a free local port that answers its first client with `words`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(8)
                client.sendall(words)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=5)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_report_names_every_part_and_the_cost_of_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = {row["part"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "accelerator", "transformers", "langgraph", "git", "pocket", "bubblewrap"} < set(
        findings
    )
    assert {"container", "docker", "postgres", "ray", "data", "cache"} < set(findings)
    for part in ("python", "machine", "torch", "transformers", "langgraph", "git"):
        assert findings[part]["ok"], findings[part]
    for row in findings.values():
        assert row["found"] and "\n" not in row["found"]
        assert row["ok"] == (row["cost"] == "")


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def hostile() -> str:
        raise doctor.Missing("\x1b]0;title\x07 [bold]no[/bold]")

    monkeypatch.setattr(doctor, "PARTS", (*doctor.PARTS[:2], ("hostile", hostile, "a cost")))
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "python" in printed and "a cost" in printed and "[bold]no[/bold]" in printed
    assert "\x1b]" not in printed and "\x07" not in printed


def test_a_broken_part_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise ImportError("libsomething.so: cannot open\nsecond line")

    monkeypatch.setattr(doctor, "PARTS", (("broken", broken, "much"), ("fine", lambda: "here", "little")))
    first, second = doctor.examine()
    assert (first.ok, first.found, first.cost) == (False, "ImportError: libsomething.so: cannot open", "much")
    assert (second.ok, second.found, second.cost) == (True, "here", "")


def test_programs_that_are_missing_fail_or_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(doctor.Missing, match="no-such-program is not installed"):
        doctor.ask(["no-such-program"])
    with pytest.raises(doctor.Missing, match="broken for good"):
        doctor.ask([sys.executable, "-c", "import sys; sys.exit('first line\\nbroken for good')"])
    with pytest.raises(doctor.Missing, match="exit code 3"):
        doctor.ask([sys.executable, "-c", "import sys; sys.exit(3)"])
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    with pytest.raises(doctor.Missing, match="no answer"):
        doctor.ask([sys.executable, "-c", "import time; time.sleep(60)"])


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ("git version 2.39.5", True),
        ("git version 2.32.0.windows.1", True),
        ("git version 3.0", True),
        ("git version 2.31.9", False),
        ("git version 1.8.3.1", False),
    ],
)
def test_git_is_new_enough_or_told(said: str, ok: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "git").write_text(f"#!/bin/sh\necho {said}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if ok:
        assert doctor.git() == said
    else:
        with pytest.raises(doctor.Missing, match=r"2\.32 or newer"):
            doctor.git()


def test_a_docker_daemon_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(doctor.Missing):
        doctor.docker()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("", ("localhost", 5432)),
        ("postgresql://db.example:6000/name", ("db.example", 6000)),
        ("postgresql://user:secret@db.example/name", ("db.example", 5432)),
        ("postgresql:///name?host=/run/postgresql&port=5433", ("/run/postgresql", 5433)),
    ],
)
def test_postgres_addresses(url: str, address: tuple[str, int]) -> None:
    assert doctor.postgres_address(url) == address


@given(st.text(max_size=60))
def test_no_database_url_breaks_the_report(tail: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "SECONDS", 0.01)
        patch.setattr(os, "environ", {"STEERGRAPH_STATE": f"postgresql://127.0.0.1:{closed_port()}/\0{tail}"})
        patch.setattr(doctor, "PARTS", (("postgres", doctor.postgres, "cost"),))
        (finding,) = doctor.examine()
        assert finding.part == "postgres"


def test_postgres_is_asked_and_the_password_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with server_that_says(b"N") as port:
        monkeypatch.setenv("STEERGRAPH_STATE", f"postgresql://user:secret@127.0.0.1:{port}/name")
        assert doctor.postgres() == f"answers at 127.0.0.1:{port}"
    with server_that_says(b"HTTP/1.1 400") as port:
        monkeypatch.setenv("STEERGRAPH_STATE", f"postgresql://user:secret@127.0.0.1:{port}/name")
        with pytest.raises(doctor.Missing, match="is not Postgres") as caught:
            doctor.postgres()
        assert "secret" not in str(caught.value)
    monkeypatch.setenv("STEERGRAPH_STATE", f"postgresql://user:secret@127.0.0.1:{closed_port()}/name")
    with pytest.raises(doctor.Missing, match="no answer") as caught:
        doctor.postgres()
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("STEERGRAPH_STATE", "mysql://user:secret@127.0.0.1/name")
    with pytest.raises(doctor.Missing, match="not a postgresql:// URL"):
        doctor.postgres()


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEERGRAPH_DATA", str(tmp_path))
    assert doctor.data_folder() == str(tmp_path)
    monkeypatch.setenv("STEERGRAPH_DATA", str(tmp_path / "none"))
    with pytest.raises(doctor.Missing, match="STEERGRAPH_DATA"):
        doctor.data_folder()
    monkeypatch.delenv("STEERGRAPH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert str(tmp_path) in doctor.cache()
    assert not (tmp_path / "cache").exists(), "a report leaves nothing behind"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(doctor.Missing, match="Not a directory"):
        doctor.cache()


@pytest.mark.slow
def test_a_real_postgres_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no Postgres server installed")
    port = closed_port()
    with tempfile.TemporaryDirectory() as home:
        # Postgres refuses to run as root, so there it runs as its own user, in a folder of that user's.
        as_user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if as_user:
            shutil.chown(home, **as_user)

        def tool(name: str, *arguments: str) -> None:
            command = [programs[-1].with_name(name), "-D", f"{home}/db", *arguments]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(command, check=True, cwd=home, timeout=60, **quiet, **as_user)

        tool("initdb", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
        tool("pg_ctl", "-w", "-l", f"{home}/log", "-o", options, "start")
        try:
            monkeypatch.setenv("STEERGRAPH_STATE", f"postgresql://postgres@127.0.0.1:{port}/postgres")
            assert doctor.postgres() == f"answers at 127.0.0.1:{port}"
            monkeypatch.setenv("STEERGRAPH_STATE", f"postgresql:///postgres?host={home}&port={port}")
            assert doctor.postgres() == f"answers at {home}:{port}"
        finally:
            tool("pg_ctl", "-m", "immediate", "stop")


@pytest.mark.parametrize(
    ("text", "words"),
    [("flags\t: fpu avx512_bf16 amx_bf16", "has bfloat16 (amx_bf16, avx512_bf16)"), ("flags : fpu", "has no bfloat16")],
)
def test_whether_the_processor_has_bfloat16_is_read_and_not_timed(
    monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert words in doctor._bfloat16()
