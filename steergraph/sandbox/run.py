"""Running a command that is not trusted: a test command over a patched copy of somebody's repository.

Knows how to start, feed and stop a sandbox. Knows nothing of patches, models or tests. The kinds, best first:

- `bwrap`: bubblewrap over this machine's own programs. A command sees the system's libraries and the interpreter with
  its environment, read-only; the copy at /workspace, writable; a private /tmp, /dev/shm, /proc and a few devices;
  loopback and no other network.
- `docker`, `podman`: a container of an image that is here already (`STEERGRAPH_SANDBOX_IMAGE`, else the slim image of
  this Python's version; nothing is ever pulled), with a read-only root, the copy at /workspace, a private /tmp, and no
  network. `python` is the image's. Where an image is named, these are tried first.
- `limits`: no isolation at all. Time, memory, processes and output are bounded and the environment is cleared, but the
  command reads and writes what its user may, and reaches the network. Only on request (`unsafe`).

But for `limits` a command sees no home, no sockets, no variable of ours, and has no capability and no way to get one.
All it started is gone when it ends, or when we do.

Bounds: wall time, address space of a process and resident memory of all (of a container: memory of all), processes, one
file's size and the growth of the copy, output. Where the kernel cannot bound a sum (all memory, the copy's size, the
processes of root), it is watched every 20 ms and the whole tree is killed, so it may be passed for that long.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from pydantic import Field

from steergraph.base.errors import InputError, one_line
from steergraph.base.records import Frozen
from steergraph.sandbox.cgroup import PidsGroup
from steergraph.sandbox.kinds import WORKSPACE, Job, bwrap_words, container_words, limited, variables
from steergraph.sandbox.kinds import Kind as Kind
from steergraph.sandbox.kinds import Mount as Mount
from steergraph.sandbox.kinds import SandboxUnavailable as SandboxUnavailable
from steergraph.sandbox.watch import Bounds, Ended, KilledReason, Watch, follow

IMAGE_VARIABLE = "STEERGRAPH_SANDBOX_IMAGE"
_SET_UP_S = 30.0
_ASK_S = 20.0
_NEVER_STARTED = "0001-01-01"
_DAEMON_FAILED = 125


class RunResult(Frozen):
    """How a command ended. `exit_code` is None where it was killed; 128 + n where signal n ended it by itself."""

    exit_code: int | None
    output: str
    """Standard output and error as they came, the last part of them where there was more than is kept."""
    output_cut: bool
    timed_out: bool
    killed_reason: KilledReason | None
    seconds: float
    kind: Kind


class Sandbox(Frozen):
    """A kind of sandbox that was seen to work. Make it with `detect`."""

    kind: Kind
    program: str = Field(default="", repr=False)
    extra: tuple[str, ...] = Field(default=(), repr=False)
    image: str = ""
    """Of a container."""

    @classmethod
    def detect(cls, prefer: Kind | None = None, *, unsafe: bool = False) -> "Sandbox":
        """The best kind that works here (see above); with `unsafe`, limits where none does.

        `prefer` asks for one kind and no other; `limits` needs `unsafe` too. Raises SandboxUnavailable.
        """
        image = os.environ.get(IMAGE_VARIABLE, "")
        order: tuple[Kind, ...] = ("docker", "podman", "bwrap") if image else ("bwrap", "docker", "podman")
        reasons = []
        for kind in order if prefer is None else [kind for kind in order if kind == prefer]:
            program = shutil.which(kind)
            if program is None:
                reasons.append(f"{kind}: not installed")
                continue
            try:
                found = cls._prepared(kind, program, image)
                found._try()
                return found
            except InputError as error:
                reasons.append(f"{kind}: {error}")
        if unsafe and prefer in (None, "limits"):
            return cls(kind="limits")
        raise SandboxUnavailable(
            f"no sandbox can be had here to run tests in ({'; '.join(reasons) or 'none was asked for'}): "
            "install bubblewrap, or allow time and memory limits only with --unsafe-tests"
        )

    def place(self, cwd: Path) -> str:
        """The path under which a command sees its working folder `cwd`."""
        return str(cwd.resolve()) if self.kind == "limits" else WORKSPACE

    def run(
        self,
        command: str | Sequence[str],
        cwd: Path,
        *,
        timeout_s: float = 300.0,
        memory_mb: int = 2048,
        output_bytes: int = 200_000,
        max_processes: int = 256,
        disk_mb: int = 1024,
        env: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
    ) -> RunResult:
        """Run `command` with `cwd` as its writable working folder, which should be a copy that is thrown away.

        A command given as text goes to `/bin/sh -c`, inside. `python` is the interpreter that runs this, with its
        environment; in a container, the image's. `env` is added to the few variables that are set; none of ours are
        handed on. Standard input is empty. `mounts` are seen beside the copy; writable ones should lie in `cwd`, whose
        growth is bounded. Never raises for what the command does. Raises SandboxUnavailable where the sandbox itself
        cannot be set up, InputError where `cwd` is no folder.
        """
        if not cwd.is_dir():
            raise InputError(f"{cwd}: no such folder to run a command in")
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if not words or any("\0" in word for word in words):
            raise InputError("the command is empty or has a NUL character")
        if mounts and self.kind == "limits":
            raise SandboxUnavailable("this needs a sandbox with mounts of its own: install bubblewrap")
        bounds = Bounds(memory_mb=memory_mb, processes=max_processes, disk_mb=disk_mb)
        with tempfile.TemporaryDirectory(prefix="steergraph-sandbox-", ignore_cleanup_errors=True) as private:
            job = Job(words, cwd.resolve(), Path(private), bounds, dict(env or {}), mounts)
            try:
                return self._keep(job, timeout_s, output_bytes)
            except OSError as error:
                raise SandboxUnavailable(f"the sandbox ({self.kind}) cannot be started: {error}") from error

    def _keep(self, job: Job, timeout_s: float, output_bytes: int) -> RunResult:
        """Start the keeper, follow what it keeps, and be sure that both are gone."""
        with contextlib.ExitStack() as stack:

            def pipe() -> tuple[IO[bytes], IO[bytes]]:
                ends = os.pipe()
                return (
                    stack.enter_context(os.fdopen(ends[0], "rb", buffering=0)),
                    stack.enter_context(os.fdopen(ends[1], "wb", buffering=0)),
                )

            # A user's limits do not hold for root, whose processes a control group bounds where one can be made.
            group = PidsGroup.create(job.bounds.processes + 8) if os.getuid() == 0 and not self.image else None
            if group:
                stack.callback(group.remove)
            (status, tell), (alive, keep_alive) = pipe(), pipe()
            inherited = tell.fileno(), alive.fileno()
            config = self._config(job, tell.fileno()) | {"status": tell.fileno(), "alive": alive.fileno()}
            source = files("steergraph.sandbox").joinpath("keeper.py").read_text(encoding="utf-8")
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", source, json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                # Docker's own program finds its daemon by variables; what runs inside is given none of them.
                env=None if self.image else {"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
            # The keeper starts nothing before Python has started: what it starts then is in its group.
            if group:
                group.add([process.pid])
            assert process.stdout is not None
            stack.enter_context(process.stdout)
            try:
                tell.close()
                if not (select.select([status], [], [], _SET_UP_S)[0] and status.read(1)):
                    raise SandboxUnavailable(f"the sandbox ({self.kind}) cannot be set up: {_last_words(process)}")
                watch = Watch(None if self.image else process.pid, job.copy, job.bounds)
                ended = follow(process, watch, timeout_s, output_bytes)
            finally:
                keep_alive.write(b"0")  # closing is not enough where a fork of ours has the pipe too
                keep_alive.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SET_UP_S)
                process.kill()
                process.wait()
            return self._result(ended, (status.read() or b"").decode("utf-8", "replace"))

    def _config(self, job: Job, status: int) -> dict[str, Any]:
        """What the keeper is told."""
        if self.image:
            name = f"steergraph-{uuid.uuid4().hex}"
            shown = "{{.State.OOMKilled}} {{.State.StartedAt}}"
            after = [[self.program, "inspect", "--format", shown, name], [self.program, "rm", "--force", name]]
            words, env = container_words(self.program, self.image, name, job), None
        elif self.kind == "bwrap":
            after, env = [], variables(job, "/tmp")
            words = bwrap_words(self.program, self.extra, job, status)
        else:
            after, env, words = [], variables(job, str(job.private)), limited(job, alone=False)
        bare = self.kind == "limits"
        cwd = str(job.copy) if bare else "/"
        tells = self.kind == "bwrap"
        return {"words": words, "env": env, "after": after, "cwd": cwd, "drop_rights": bare, "tells": tells}

    def _result(self, ended: Ended, status: str) -> RunResult:
        """How it ended, with what the sandbox said of itself. Raises SandboxUnavailable where it never came to be."""
        reason = ended.killed_reason
        failed = self.kind == "bwrap" and '"exit-code"' not in status
        if self.image:
            failed = ended.exit_code == _DAEMON_FAILED and (not status.strip() or _NEVER_STARTED in status)
            reason = reason or ("memory" if status.startswith("true") else None)
        if failed and not reason:
            raise SandboxUnavailable(f"the sandbox ({self.kind}) cannot be set up: {_last_line(ended.output)}")
        return RunResult(
            exit_code=None if reason else ended.exit_code,
            output=ended.output,
            output_cut=ended.output_cut,
            timed_out=reason == "time",
            killed_reason=reason,
            seconds=ended.seconds,
            kind=self.kind,
        )

    @classmethod
    def _prepared(cls, kind: Kind, program: str, image: str) -> "Sandbox":
        """Of a program that is installed. Raises SandboxUnavailable where a daemon or an image is not there."""
        if kind == "bwrap":
            # Only newer versions have it: no user namespaces inside, where the kernel is easier to attack.
            option = "--disable-userns"
            return cls(kind=kind, program=program, extra=(option,) if option in _ask([program, "--help"])[1] else ())
        image = image or f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
        code, said = _ask([program, "image", "inspect", "--format", "{{.Id}}", image])
        if code != 0:
            raise SandboxUnavailable(f"{_last_line(said)} ({image}; {IMAGE_VARIABLE} names another)")
        return cls(kind=kind, program=program, image=image)

    def _try(self) -> None:
        """Run a trivial command. Raises InputError where that does not work."""
        with tempfile.TemporaryDirectory(prefix="steergraph-sandbox-") as folder:
            Path(folder, "probe").write_text("inside\n")
            # An image of somebody's own may have no Python.
            words = ["cat", "probe"] if self.image else ["python", "-c", "print(open('probe').read())"]
            result = self.run(words, Path(folder), timeout_s=_ASK_S)
        if result.exit_code != 0 or result.output.strip() != "inside":
            raise SandboxUnavailable(_last_line(result.output, f"a trivial command ended with {result.exit_code}"))


def _ask(words: Sequence[str]) -> tuple[int, str]:
    """Exit status of a program, and all that it prints."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_ASK_S, check=False)
    except subprocess.TimeoutExpired:
        return 1, f"no answer in {_ASK_S:g} s"
    return done.returncode, done.stdout + done.stderr


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """What a keeper that failed to start had to say."""
    assert process.stdout is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    os.set_blocking(process.stdout.fileno(), False)
    return _last_line((process.stdout.read() or b"").decode("utf-8", "replace"), f"exit status {process.poll()}")


def _last_line(text: str, otherwise: str = "no word why") -> str:
    return one_line((text.strip() or otherwise).splitlines()[-1], 200)
