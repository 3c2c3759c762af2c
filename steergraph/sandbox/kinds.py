"""The kinds of sandbox: what each shows to a command, what it bounds, and the command line that makes it.

Knows the options of bubblewrap, docker, podman and prlimit. Starts nothing; `run.py` runs and watches.
"""

import csv
import io
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from steergraph.base.errors import InputError
from steergraph.sandbox.watch import Bounds

Kind = Literal["bwrap", "docker", "podman", "limits"]


class Mount(NamedTuple):
    """A file or folder of ours that a sandbox sees at `target`, an absolute path, read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


class Job(NamedTuple):
    """One command: its words, the copy that it works in, an empty folder of this run's own, and what it is given."""

    words: Sequence[str]
    copy: Path
    private: Path
    bounds: Bounds
    env: Mapping[str, str]
    mounts: Sequence[Mount]


class SandboxUnavailable(InputError):
    """No sandbox of the wanted kind works on this machine. The message says what to do."""


WORKSPACE = "/workspace"
_UID = 1000
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "mime.types")
_OWN_ETC = {
    "passwd": f"sandbox:x:{_UID}:{_UID}::/tmp:/bin/sh\n",
    "group": f"sandbox:x:{_UID}:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr", "latency_stats", "timer_stats")
"""What /proc lets root's processes write, capabilities or none: for root a user namespace is no shield here."""
_VARIABLES = {
    "LANG": "C.UTF-8",
    "USER": "sandbox",
    "LOGNAME": "sandbox",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
}
_OPEN_FILES = 1024


def variables(job: Job, home: str) -> dict[str, str]:
    """All that a command of this machine's own programs finds in its environment."""
    path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": home, "TMPDIR": home, **_VARIABLES, **job.env}


def bwrap_words(program: str, extra: Sequence[str], job: Job, status: int) -> list[str]:
    """Bubblewrap over the system's folders, read-only. Its variables are those of the process that starts it.

    What it says of itself goes to the pipe `status`. Raises SandboxUnavailable where the interpreter's folder holds the
    user's home.
    """
    size = str(_memory_disk(job.bounds))
    words = [
        *(program, *extra, "--json-status-fd", str(status)),
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"),
        *("--uid", str(_UID), "--gid", str(_UID)),
    ]
    for path in filter(os.path.islink, _SYSTEM):
        words += ["--symlink", str(Path(path).readlink()), path]
    words += ["--dev", "/dev", "--size", size, "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    words += ["--size", size, "--perms", "1777", "--tmpfs", "/tmp", "--proc", "/proc"]
    for name in _PROC_READ_ONLY:
        words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for source, target in _read_only(job.private):
        words += ["--ro-bind", source, target]
    words += ["--bind", str(job.copy), WORKSPACE]
    for mount in job.mounts:
        words += ["--bind" if mount.writable else "--ro-bind", str(mount.source.resolve()), mount.target]
    return [*words, "--chdir", WORKSPACE, "--remount-ro", "/", "--", *limited(job, alone=True)]


def container_words(program: str, image: str, name: str, job: Job) -> list[str]:
    """A container of `image`, which must be there: nothing is pulled. Memory is bounded for all its processes together.

    It runs as the user who asks, so that what it writes into the copy is theirs.
    """
    bounds = job.bounds
    words = [
        *(program, "run", "--name", name, "--pull", "never", "--network", "none", "--hostname", "sandbox", "--init"),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--log-driver", "none"),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--workdir", WORKSPACE),
        *("--memory", f"{bounds.memory_mb}m", "--memory-swap", f"{bounds.memory_mb}m"),
        *("--pids-limit", str(bounds.processes), "--ulimit", f"fsize={bounds.disk_mb << 20}"),
        *("--ulimit", "core=0", "--ulimit", f"nofile={_OPEN_FILES}"),
        *("--shm-size", f"{_memory_disk(bounds)}b"),
        *("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={_memory_disk(bounds)}"),
    ]
    if Path(program).name == "podman" and os.getuid() != 0:
        words += ["--userns", "keep-id"]
    for mount in (Mount(job.copy, WORKSPACE, True), *job.mounts):
        fields = ["type=bind", f"source={mount.source.resolve()}", f"target={mount.target}"]
        line = io.StringIO()  # a comma or a quote in a path
        csv.writer(line, lineterminator="").writerow(fields + ([] if mount.writable else ["readonly"]))
        words += ["--mount", line.getvalue()]
    for key, value in {"HOME": "/tmp", "TMPDIR": "/tmp", **_VARIABLES, **job.env}.items():
        words += ["--env", f"{key}={value}"]
    return [*words, image, *job.words]


def limited(job: Job, *, alone: bool) -> list[str]:
    """The command under the kernel's limits. `alone`: in a user namespace of its own, which counts its processes."""
    bounds = job.bounds
    limits = {
        "as": bounds.memory_mb << 20,
        "fsize": bounds.disk_mb << 20,
        "core": 0,
        "nofile": _OPEN_FILES,
    }
    # The kernel does not bound root's processes, and before 5.14 it counted the user's processes everywhere.
    if os.getuid() != 0:
        limits["nproc"] = bounds.processes + (8 if alone and _kernel() >= (5, 14) else _tasks_of(os.getuid()))
    for name, value in limits.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        limits[name] = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return ["prlimit", *(f"--{name}={value}" for name, value in limits.items()), "--", *job.words]


def _memory_disk(bounds: Bounds) -> int:
    """Bytes of a folder in memory, of which there are two."""
    return (bounds.disk_mb << 20) // 4


def _read_only(private: Path) -> list[tuple[str, str]]:
    """What a sandbox sees read-only, as (path outside, path inside)."""
    shown = [path for path in _SYSTEM if Path(path).is_dir() and not Path(path).is_symlink()]
    executable = Path(sys.executable)
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - Path.home raises where there is none
    for prefix in (sys.base_prefix, sys.prefix, sys.exec_prefix, executable.resolve().parents[1]):
        for path in (Path(prefix), Path(prefix).resolve()):
            if path == Path("/") or home.is_relative_to(path):
                raise SandboxUnavailable(f"the interpreter's folder {path} holds your home: use a virtual environment")
            if not any(path.is_relative_to(known) for known in shown):
                shown.append(str(path))
    mounts = [(path, path) for path in shown]
    mounts += [(str(Path("/etc", name).resolve()), f"/etc/{name}") for name in _ETC if Path("/etc", name).exists()]
    for name, text in _OWN_ETC.items():
        (private / name).write_text(text)
        mounts.append((str(private / name), f"/etc/{name}"))
    return mounts


def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _tasks_of(uid: int) -> int:
    """Threads that the user runs now, anywhere."""
    listed = psutil.process_iter(["uids", "num_threads"])
    return sum(each.info["num_threads"] or 0 for each in listed if each.info["uids"] and each.info["uids"].real == uid)
