"""Containers: the command line, a `docker` of our own that plays one, and a real daemon where one starts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker_daemon
import pytest

from steergraph.sandbox.kinds import WORKSPACE, Job, Mount, container_words
from steergraph.sandbox.run import IMAGE_VARIABLE, Sandbox, SandboxUnavailable
from steergraph.sandbox.watch import Bounds

IMAGE = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
FAKE = """\
#!{python}
import csv, json, os, subprocess, sys
here = {here!r}
with open(here + "/calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
words = sys.argv[2:]
plan = json.load(open(here + "/plan"))
if sys.argv[1] == "image":
    sys.exit(0 if words[-1] in plan["images"] else "Error: No such image: " + words[-1])
if sys.argv[1] == "inspect":
    print(plan["state"])
if sys.argv[1] == "run":
    if plan["refuses"]:
        print("docker: Error response from daemon: no more room.", file=sys.stderr)
        sys.exit(125)
    folder = next(line.split("source=")[1] for line in words if line.startswith("type=bind")).split(",")[0]
    image = next(at for at, word in enumerate(words) if word in plan["images"])
    sys.exit(subprocess.run(words[image + 1 :], cwd=folder, env={{"PATH": "/usr/bin:/bin"}}).returncode)
"""


class Docker:
    """A `docker` that logs how it is called, and runs a container's command in the folder that would be mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan(images=[IMAGE, "mine"])
        (folder / "docker").write_text(FAKE.format(python=sys.executable, here=str(folder)))
        (folder / "docker").chmod(0o755)

    def plan(self, **changes: Any) -> None:
        usual = {"images": [IMAGE], "refuses": False, "state": "false 2024-01-01"}
        (self.folder / "plan").write_text(json.dumps(usual | changes))

    def calls(self, of: str) -> list[list[str]]:
        path = self.folder / "calls"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line[1:] for line in lines if line[0] == of]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/nowhere")
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    return Docker(tmp_path / "bin")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / 'a,b "c"'
    odd.mkdir()
    job = Job(["python", "-V"], odd, tmp_path, Bounds(300, 20, 8), {"MINE": "given"}, [Mount(tmp_path, "/opt/x")])
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)
    words = container_words("/usr/bin/docker", "img", "name", job)
    assert words[:4] == ["/usr/bin/docker", "run", "--name", "name"] and words[-3:] == ["img", "python", "-V"]
    fixed = {"--pull": "never", "--network": "none", "--cap-drop": "ALL", "--security-opt": "no-new-privileges"}
    bounds = {"--memory": "300m", "--memory-swap": "300m", "--pids-limit": "20", "--workdir": WORKSPACE}
    for option, said in {**fixed, **bounds, "--user": "1234:5678"}.items():
        assert value(words, option) == said
    assert (
        "--read-only" in words and "fsize=8388608" in words and "--userns" not in words and "--privileged" not in words
    )
    mounts = [word for word in words if word.startswith(("type=bind", '"type=bind'))]
    quoted = str(odd).replace('"', '""')
    assert mounts == [
        f'type=bind,"source={quoted}",target={WORKSPACE}',
        f"type=bind,source={tmp_path},target=/opt/x,readonly",
    ]
    assert "MINE=given" in words and not any(word.startswith("PATH=") for word in words)
    assert value(container_words("/usr/bin/podman", "img", "name", job), "--userns") == "keep-id"


def test_a_container_is_chosen_where_there_is_no_bubblewrap_and_nothing_is_pulled(docker: Docker) -> None:
    found = Sandbox.detect()
    assert (found.kind, found.image) == ("docker", IMAGE)
    docker.plan(images=[])
    with pytest.raises(
        SandboxUnavailable, match=f"docker: Error: No such image: {IMAGE}.*{IMAGE_VARIABLE} names another"
    ):
        Sandbox.detect()
    assert not docker.calls("pull") and all(value(call, "--pull") == "never" for call in docker.calls("run"))


def test_an_image_that_is_named_puts_containers_first(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (docker.folder / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (docker.folder / "bwrap").chmod(0o755)
    monkeypatch.setenv(IMAGE_VARIABLE, "mine")
    assert Sandbox.detect().image == "mine"
    monkeypatch.setenv(IMAGE_VARIABLE, "nowhere")
    with pytest.raises(SandboxUnavailable, match="No such image: nowhere"):
        Sandbox.detect("docker")


def test_a_command_runs_and_its_container_is_removed(docker: Docker, copy: Path) -> None:
    sandbox = Sandbox.detect()
    result = sandbox.run("echo out > b.txt; echo said; exit 3", copy)
    assert (result.exit_code, result.output, result.kind) == (3, "said\n", "docker")
    assert (copy / "b.txt").read_text() == "out\n"
    assert sandbox.run("exit 125", copy).exit_code == 125
    names = [value(call, "--name") for call in docker.calls("run")]
    assert [call[-1] for call in docker.calls("rm")] == names == list(dict.fromkeys(names))


def test_what_takes_too_long_or_too_much(docker: Docker, copy: Path) -> None:
    sandbox = Sandbox.detect()
    late = sandbox.run("echo up; sleep 60", copy, timeout_s=1.0)
    assert late.timed_out and late.exit_code is None and late.output == "up\n" and late.seconds < 30
    assert docker.calls("rm")[-1][-1] == value(docker.calls("run")[-1], "--name")
    docker.plan(state="true 2024-01-01")
    assert sandbox.run("exit 137", copy).killed_reason == "memory"


def test_a_daemon_that_refuses_is_no_failing_command(docker: Docker, copy: Path) -> None:
    sandbox = Sandbox.detect()
    docker.plan(refuses=True, state="false 0001-01-01T00:00:00Z")
    with pytest.raises(
        SandboxUnavailable, match=r"\(docker\) cannot be set up: docker: Error response .* no more room"
    ):
        sandbox.run("true", copy)


def test_the_container_of_a_killed_starter_is_removed(docker: Docker, copy: Path) -> None:
    code = f"""
from pathlib import Path
from steergraph.sandbox.run import Sandbox
sandbox = Sandbox(kind="docker", program={str(docker.folder / "docker")!r}, image={IMAGE!r})
sandbox.run("echo up > started; sleep 60", Path({str(copy)!r}))
"""
    starter = subprocess.Popen([sys.executable, "-c", code])
    soon(lambda: (copy / "started").exists())
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    soon(lambda: bool(docker.calls("rm")))


def soon(true: Any) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it never came to be")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if why := docker_daemon.why_no_daemon():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("d")  # a socket's path may have no more than 107 letters
    (folder / "testbed").mkdir()
    try:
        with docker_daemon.daemon(folder) as found:
            docker_daemon.make_root(folder / "root", folder / "testbed")
            docker_daemon.import_image(found, "own/python:latest", folder / "root")
            yield found
    except RuntimeError as error:
        pytest.skip(f"no Docker daemon starts here: {error}")


@pytest.mark.slow
def test_a_real_container_keeps_in(address: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setenv(IMAGE_VARIABLE, "own/python:latest")
    monkeypatch.setenv("SECRET_KEY", "canary-7151")
    sandbox = Sandbox.detect("docker")
    result = sandbox.run("env; echo x > /tmp/x; echo x > made; echo y > /usr/y", copy)
    assert "canary-7151" not in result.output and "Read-only file system" in result.output
    assert (copy / "made").read_text() == "x\n" and (copy / "made").stat().st_uid == os.getuid()
    network = "import socket; socket.create_connection(('1.1.1.1', 53), timeout=2)"
    assert "unreachable" in sandbox.run(["python", "-c", network], copy).output
    assert sandbox.run("kill -9 $$", copy).exit_code == 137
    assert sandbox.run(["no-such-command"], copy).exit_code == 127
    assert sandbox.run(["python", "-c", "x = bytearray(600 << 20)"], copy, memory_mb=200).killed_reason == "memory"
    forks = "import os, time\nfor _ in range(9): os.fork()\ntime.sleep(5)"
    assert "BlockingIOError" in sandbox.run(["python", "-c", forks], copy, max_processes=20, timeout_s=20).output
    assert sandbox.run(["python", "-c", "while True: pass"], copy, timeout_s=2.0).timed_out
    left = subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, timeout=30)
    assert left.stdout == ""
