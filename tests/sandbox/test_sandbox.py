"""The kinds of sandbox that run this machine's own programs, and what they must keep in."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steergraph.base.errors import InputError
from steergraph.sandbox.run import Kind, RunResult, Sandbox, SandboxUnavailable


def works(kind: Kind) -> bool:
    try:
        return bool(Sandbox.detect(kind))
    except SandboxUnavailable:
        return False


ISOLATING: list[Kind] = ["bwrap"] if works("bwrap") else []


@pytest.fixture(params=[*ISOLATING, "limits"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox.detect(request.param, unsafe=True)


@pytest.fixture(params=ISOLATING or [pytest.param(None, marks=pytest.mark.skip("no namespaces here"))])
def isolated(request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox.detect(request.param)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


def python(sandbox: Sandbox, copy: Path, code: str, **limits: float) -> RunResult:
    return sandbox.run(["python", "-c", code], copy, **({"timeout_s": 20} | limits))  # type: ignore[arg-type]


def test_a_command_runs_in_the_copy(sandbox: Sandbox, copy: Path) -> None:
    (copy / "a.txt").write_text("hello\n")
    result = sandbox.run("cat a.txt; echo out > b.txt; echo err >&2; exit 3", copy)
    assert (result.exit_code, result.output, result.killed_reason) == (3, "hello\nerr\n", None)
    assert (copy / "b.txt").read_text() == "out\n"
    assert result.kind == sandbox.kind and not result.timed_out and not result.output_cut
    assert sandbox.run("kill -9 $$", copy).exit_code == 137
    assert sandbox.run(["no-such-command"], copy).exit_code == 127


def test_python_is_this_one(sandbox: Sandbox, copy: Path) -> None:
    result = python(sandbox, copy, "import sys, pytest, numpy; print(sys.prefix)")
    assert result.output.strip() == sys.prefix


def test_environment_is_cleared(sandbox: Sandbox, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary-7151")
    code = (
        "import glob\nfor f in glob.glob('/proc/[0-9]*/environ'):\n  try: print(open(f).read())\n  except OSError: pass"
    )
    result = sandbox.run(f'env; python -c "{code}"' if sandbox.kind != "limits" else "env", copy, env={"MINE": "given"})
    assert "canary-7151" not in result.output and "MINE=given" in result.output


def test_home_sockets_and_files_are_hidden(isolated: Sandbox, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary-2207")
    # The machine's own home, whatever HOME says here.
    result = isolated.run(f"cat {tmp_path}/secret; ls -A {Path.home()} /home /run /var/run /etc; ls /", copy)
    assert "canary-2207" not in result.output and "No such file" in result.output
    for name in ("shadow", "docker.sock", ".ssh", ".bashrc", ".gitconfig"):
        assert name not in result.output
    shown = python(
        isolated, copy, "import os; print(os.getpid() < 10, len([p for p in os.listdir('/proc') if p.isdigit()]) < 6)"
    )
    assert shown.output.split() == ["True", "True"]


def test_no_network_but_loopback(isolated: Sandbox, copy: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
for address in (("127.0.0.1", {port}), ("192.0.2.2", 80), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, timeout=2)
        print("reached", address)
    except OSError as error:
        print("refused")
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname(), timeout=2)
print("own loopback works", [name for _, name in socket.if_nameindex()])
"""
        result = python(isolated, copy, code)
    assert "reached" not in result.output and result.output.count("refused") == 3
    assert "own loopback works ['lo'" in result.output


def test_writing_outside_is_refused(isolated: Sandbox, copy: Path) -> None:
    targets = ["/x", "/usr/x", "/etc/passwd", "/dev/x", f"{sys.prefix}/x", "/proc/sys/kernel/core_pattern"]
    targets += ["/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory"]
    code = f"""
import os
for path in {targets!r}:
    try:
        with open(path, "r+" if os.path.exists(path) else "w") as file:
            print("opened", path)
    except OSError:
        print("refused")
open("/tmp/x", "w").write("y"); open("/dev/shm/x", "w").write("y"); open("x", "w").write("y")
"""
    result = python(isolated, copy, code)
    assert result.exit_code == 0 and result.output.split() == ["refused"] * len(targets), result.output


def test_rights_are_gone(isolated: Sandbox, copy: Path) -> None:
    code = """
import ctypes, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(*(int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")), int(status["NoNewPrivs"]))
print(os.getuid(), ctypes.CDLL(None).unshare(0x10000000), ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None))
"""
    lines = python(isolated, copy, code).output.splitlines()
    assert lines[0] == "0 0 0 0 0 1"
    assert lines[1].startswith("1000 ") and lines[1].endswith(" -1")


def test_a_sleeper_that_ignores_signals_is_killed(sandbox: Sandbox, copy: Path) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    result = python(sandbox, copy, code, timeout_s=1.0)
    assert result.timed_out and result.killed_reason == "time" and result.exit_code is None
    assert result.output == "up\n" and result.seconds < 30


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        while True:
            open("beat", "a").write("x")
            time.sleep(0.02)
    os._exit(0)
time.sleep({wait})
"""


@pytest.mark.parametrize(("wait", "timeout_s"), [(0.3, 20.0), (60, 1.0)])
def test_daemons_are_gone_after_the_run(sandbox: Sandbox, copy: Path, wait: float, timeout_s: float) -> None:
    python(sandbox, copy, DAEMON.format(wait=wait), timeout_s=timeout_s)
    beats = (copy / "beat").stat().st_size
    assert beats > 0
    time.sleep(0.3)
    assert (copy / "beat").stat().st_size == beats


def test_a_gigabyte_of_output_is_cut(sandbox: Sandbox, copy: Path) -> None:
    result = sandbox.run("yes 0123456789 | head -c 1000000000", copy, output_bytes=20_000, timeout_s=60)
    assert result.killed_reason == "output" and result.output_cut and result.exit_code is None
    assert len(result.output) == 20_000
    tail = python(sandbox, copy, "print('x' * 50_000); print('the end')", output_bytes=20_000)
    assert tail.killed_reason is None and tail.output_cut and tail.output.endswith("x\nthe end\n")


def test_output_that_is_no_text(sandbox: Sandbox, copy: Path) -> None:
    assert sandbox.run(r"printf '\377\376ok'", copy).output == "\ufffd\ufffdok"


def test_a_memory_hog_fails(sandbox: Sandbox, copy: Path) -> None:
    result = python(sandbox, copy, "x = bytearray(600_000_000); print('had it')", memory_mb=300)
    assert "had it" not in result.output and "MemoryError" in result.output and result.exit_code == 1


def test_many_hogs_together_are_killed(sandbox: Sandbox, copy: Path) -> None:
    code = "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(os.urandom(1)) * 60_000_000\ntime.sleep(30)"
    result = python(sandbox, copy, code, memory_mb=100)
    assert result.killed_reason == "memory"


def test_a_fork_bomb_is_contained(sandbox: Sandbox, copy: Path) -> None:
    # Bounded even where nothing stops it: at most 2 ** 9 processes.
    code = """
import os, time
try:
    for _ in range(9):
        os.fork()
        time.sleep(0.05)
except OSError:
    print("no more")
time.sleep(5)
"""
    result = python(sandbox, copy, code, max_processes=20)
    assert result.killed_reason == "processes" or "no more" in result.output


@pytest.mark.slow
def test_a_real_fork_bomb_is_contained(isolated: Sandbox, copy: Path) -> None:
    result = isolated.run("b() { b | b & }; b; sleep 3", copy, timeout_s=10, max_processes=50)
    assert result.killed_reason in ("processes", "time") or "fork" in result.output.lower()
    assert Sandbox.detect(isolated.kind).run("echo fine", copy).output == "fine\n"


def test_filling_the_disk_is_bounded(sandbox: Sandbox, copy: Path) -> None:
    code = """
import sys
for number in range(64):
    try:
        with open(f"{sys.argv[1]}/big{number}", "wb") as file:
            for _ in range(8):
                file.write(bytes(1 << 20))
    except OSError as error:
        print("refused", number); break
"""
    one_file = python(sandbox, copy, "open('one', 'wb').write(bytes(20 << 20))", disk_mb=8)
    assert one_file.exit_code == 1 and (copy / "one").stat().st_size <= 8 << 20
    (copy / "one").unlink()
    if sandbox.kind != "limits":
        for folder in ("/tmp", "/dev/shm"):
            result = sandbox.run(["python", "-c", code, folder], copy, disk_mb=16, timeout_s=20)
            assert result.output.split() == ["refused", "0"]
    slow = code.replace("file.write", "import time; time.sleep(0.002); file.write")
    result = sandbox.run(["python", "-c", slow, "."], copy, disk_mb=32, timeout_s=30)
    assert result.killed_reason == "disk"
    assert sum(path.stat().st_size for path in copy.iterdir()) < 400 << 20


def test_nothing_outlives_a_killed_starter(sandbox: Sandbox, copy: Path) -> None:
    code = f"""
from pathlib import Path
from steergraph.sandbox.run import Sandbox
Sandbox.detect({sandbox.kind!r}, unsafe=True).run(["python", "-c", {DAEMON.format(wait=60)!r}], Path({str(copy)!r}))
"""
    starter = subprocess.Popen([sys.executable, "-c", code])
    for _ in range(400):
        if (copy / "beat").exists():
            break
        time.sleep(0.05)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    for _ in range(100):
        beats = (copy / "beat").stat().st_size
        time.sleep(0.2)
        if (copy / "beat").stat().st_size == beats:
            return
    pytest.fail("the daemon goes on")


def test_detect_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        SandboxUnavailable, match=r"bwrap: not installed; docker: not installed; podman: not .*--unsafe-tests"
    ):
        Sandbox.detect()
    assert Sandbox.detect(unsafe=True).kind == "limits"
    with pytest.raises(SandboxUnavailable, match="--unsafe-tests"):
        Sandbox.detect("limits")


def test_bad_arguments(copy: Path) -> None:
    sandbox = Sandbox.detect("limits", unsafe=True)
    with pytest.raises(InputError, match="no such folder"):
        sandbox.run("true", copy / "missing")
    with pytest.raises(InputError, match="NUL"):
        sandbox.run("a\0b", copy)
