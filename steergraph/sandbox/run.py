"""Running a command that is not trusted: a test command over a patched copy of somebody's repository.

Knows mounts, namespaces and limits. Knows nothing of patches, models or tests. Three kinds:

- `bwrap`: bubblewrap.
- `unshare`: the same namespaces, mounts and rights by util-linux's `unshare` and `sandbox_init.py`. Weaker in this: it
  has been looked at by fewer eyes, and there is no seccomp filter (nor does `bwrap` get one here).
- `limits`: no isolation at all. Time, memory, processes and output are bounded and the environment is cleared, but the
  command reads and writes what its user may, and reaches the network. Only on request (`unsafe`).

In the first two a command sees: the system's libraries and the interpreter with its environment, read-only; the copy
at /workspace, writable; a private /tmp, /dev/shm, /proc and a few devices; loopback and no other network. It sees no
home, no sockets, no variable of ours, and has no capability and no way to get one. All it started is gone when it ends.

Bounds: wall time, address space of a process and resident memory of all, processes, one file's size and the growth of
the copy, output. Where the kernel cannot bound a sum (all memory, the copy's size), it is watched every 20 ms and the
whole tree is killed, so it may be passed for that long. The processes of root are bounded by a control group where one
can be made, else by watching alone.
"""

import contextlib
import os
import select
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from steergraph.base.cancellation import Stopped, stopped
from steergraph.base.errors import InputError
from steergraph.base.records import Frozen
from steergraph.sandbox.cgroup import PidsGroup
from steergraph.sandbox.inside import Kind as Kind
from steergraph.sandbox.inside import Mount as Mount
from steergraph.sandbox.inside import SandboxUnavailable as SandboxUnavailable
from steergraph.sandbox.inside import command_line, configuration, extra_options
from steergraph.sandbox.watch import Bounds, Namespace, Watch, kill_tree, tree

KilledReason = Literal["time", "memory", "processes", "disk", "output"]

_TICK_S = 0.02
_SET_UP_S = 30.0
_FLOOD = 64
"""A command is killed once it has printed so many times the output that is kept."""


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

    @classmethod
    def detect(cls, prefer: Kind | None = None, *, unsafe: bool = False) -> "Sandbox":
        """The best kind that works here: bwrap, then unshare; with `unsafe`, limits where neither does.

        `prefer` asks for one kind and no other; `limits` needs `unsafe` too. Raises SandboxUnavailable.
        """
        reasons = []
        isolating: tuple[Kind, ...] = ("bwrap", "unshare")
        for kind in isolating if prefer is None else [k for k in isolating if k == prefer]:
            program = shutil.which(kind)
            if program is None:
                reasons.append(f"{kind}: not installed")
                continue
            found = cls(kind=kind, program=program, extra=extra_options(kind, program))
            if (why := found._why_not()) is None:
                return found
            reasons.append(f"{kind}: {why}")
        if unsafe and prefer in (None, "limits"):
            return cls(kind="limits")
        raise SandboxUnavailable(
            f"no sandbox can be had here to run tests in ({'; '.join(reasons) or 'none was asked for'}): "
            "install bubblewrap, or allow time and memory limits only with --unsafe-tests"
        )

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
        environment. `env` is added to the few variables that are set; none of ours are handed on. Standard input is
        empty. `mounts` are seen beside the copy; writable ones should lie in `cwd`, whose growth is bounded. Never
        raises for what the command does. Raises SandboxUnavailable where the sandbox itself cannot be set up,
        InputError where `cwd` is no folder.
        """
        if not cwd.is_dir():
            raise InputError(f"{cwd}: no such folder to run a command in")
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if not words or any("\0" in word for word in words):
            raise InputError("the command is empty or has a NUL character")
        bounds = Bounds(memory_mb=memory_mb, processes=max_processes, disk_mb=disk_mb)
        with contextlib.ExitStack() as stack:
            private = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="steergraph-sandbox-", ignore_cleanup_errors=True)
                )
            )
            group = PidsGroup.create(bounds.processes + 8) if os.getuid() == 0 else None
            if group:
                stack.callback(group.remove)
            config = configuration(self.kind, words, cwd.resolve(), private, bounds, dict(env or {}), mounts)
            try:
                return self._start_and_follow(config, cwd, timeout_s, output_bytes, bounds, group)
            except OSError as error:
                raise SandboxUnavailable(f"the sandbox ({self.kind}) cannot be started: {error}") from error

    def _start_and_follow(
        self,
        config: dict[str, object],
        cwd: Path,
        timeout_s: float,
        output_bytes: int,
        bounds: Bounds,
        group: PidsGroup | None,
    ) -> RunResult:
        with contextlib.ExitStack() as stack:

            def pipe() -> tuple[IO[bytes], IO[bytes]]:
                ends = os.pipe()
                reads, writes = (
                    os.fdopen(end, mode, buffering=0) for end, mode in zip(ends, ("rb", "wb"), strict=True)
                )
                stack.callback(reads.close)
                stack.callback(writes.close)
                return reads, writes

            (started, tell_started), (alive, keep_alive) = pipe(), pipe()
            inherited = tell_started.fileno(), alive.fileno()
            process = subprocess.Popen(
                command_line(self.program, self.extra, config | {"started": inherited[0], "alive": inherited[1]}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
            namespace = None
            try:
                tell_started.close()
                if not (select.select([started], [], [], _SET_UP_S)[0] and started.read(1)):
                    raise SandboxUnavailable(f"the sandbox ({self.kind}) cannot be set up: {_last_words(process)}")
                if self.kind != "limits":
                    namespace = Namespace(process.pid)
                if group:
                    group.add(each.pid for each in tree(process.pid))
                keep_alive.write(b"1")
                return self._follow(process, cwd, timeout_s, output_bytes, bounds)
            finally:
                if namespace:
                    namespace.kill()
                elif process.poll() is None:
                    kill_tree(process.pid)
                process.kill()
                process.wait()
                if namespace:
                    namespace.close()
                if process.stdout:
                    process.stdout.close()

    def _follow(
        self, process: subprocess.Popen[bytes], cwd: Path, timeout_s: float, output_bytes: int, bounds: Bounds
    ) -> RunResult:
        """Read the output and watch the bounds, until the end or until a bound is passed."""
        assert process.stdout is not None
        began = time.monotonic()
        watch = Watch(process.pid, cwd, bounds)
        kept, total = bytearray(), 0
        reason: KilledReason | None = None
        output = process.stdout.fileno()
        os.set_blocking(output, False)
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            next_look = began
            while reason is None:
                if stopped():
                    raise Stopped
                if selector.select(_TICK_S):
                    chunk = os.read(output, 1 << 16)
                    if not chunk:
                        break
                    total += len(chunk)
                    kept += chunk
                    if len(kept) > 2 * output_bytes:
                        del kept[:-output_bytes]
                elif process.poll() is not None:
                    break
                now = time.monotonic()
                if now - began > timeout_s:
                    reason = "time"
                elif total > _FLOOD * output_bytes:
                    reason = "output"
                elif now >= next_look:
                    reason = watch.exceeded()
                    next_look = time.monotonic() + _TICK_S
        while reason is None and process.poll() is None:  # it closed its output and goes on
            if stopped():
                raise Stopped
            reason = "time" if time.monotonic() - began > timeout_s else watch.exceeded()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TICK_S)
        code = process.returncode
        return RunResult(
            exit_code=None if reason else code if code >= 0 else 128 - code,
            output=bytes(kept[-output_bytes:]).decode("utf-8", "replace"),
            output_cut=total > output_bytes,
            timed_out=reason == "time",
            killed_reason=reason,
            seconds=time.monotonic() - began,
            kind=self.kind,
        )

    def _why_not(self) -> str | None:
        """Why a trivial command does not run in this kind of sandbox; None where it does."""
        with tempfile.TemporaryDirectory(prefix="steergraph-sandbox-") as folder:
            try:
                result = self.run(["python", "-c", "print('inside')"], Path(folder), timeout_s=20.0)
            except InputError as error:
                return str(error)
        if result.exit_code == 0 and result.output.strip() == "inside":
            return None
        return (result.output.strip() or f"a trivial command ended with {result.exit_code}").splitlines()[-1][:200]


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """What a sandbox that failed to start had to say, in one line."""
    assert process.stdout is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    os.set_blocking(process.stdout.fileno(), False)
    said = (process.stdout.read() or b"").decode("utf-8", "replace").strip().splitlines()
    return said[-1][:200] if said else f"exit status {process.poll()}"
