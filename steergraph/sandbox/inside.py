"""What a sandbox holds: mounts, variables, limits, and the command line that sets it up.

Knows bubblewrap's and `unshare`'s options. Starts nothing but `bwrap --help`; `sandbox.py` runs and watches.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from steergraph.base.errors import InputError
from steergraph.sandbox.init import PROC_READ_ONLY
from steergraph.sandbox.watch import Bounds

Kind = Literal["bwrap", "unshare", "limits"]


class Mount(NamedTuple):
    """A file or folder of ours that a sandbox sees at `target`, an absolute path, read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


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


class SandboxUnavailable(InputError):
    """No sandbox of the wanted kind works on this machine. The message says what to do."""


def configuration(
    kind: Kind,
    words: list[str],
    cwd: Path,
    private: Path,
    bounds: Bounds,
    env: dict[str, str],
    mounts: Sequence[Mount] = (),
) -> dict[str, object]:
    """What the first process inside is told: the command, its folder, variables, limits and mounts.

    `private` is an empty folder of this run's own. Raises SandboxUnavailable where the interpreter's folder holds
    the user's home, or where there are mounts and the kind has none.
    """
    isolated = kind != "limits"
    if mounts and not isolated:
        raise SandboxUnavailable("this needs a sandbox with mounts of its own: install bubblewrap")
    home = "/tmp" if isolated else str(_folder(private / "home"))
    inside = {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": home,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }
    limits = {
        "AS": bounds.memory_mb << 20,
        "FSIZE": bounds.disk_mb << 20,
        "CORE": 0,
        "NOFILE": 1024,
    }
    # The kernel does not bound root's processes, and before 5.14 it counted the user's processes everywhere.
    if os.getuid() != 0:
        alone = isolated and _kernel() >= (5, 14)
        limits["NPROC"] = bounds.processes + (8 if alone else _processes_of(os.getuid()))
    return {
        "kind": kind,
        "command": words,
        "cwd": WORKSPACE if isolated else str(cwd),
        "copy": str(cwd),
        "env": inside | env,
        "limits": limits,
        "processes": bounds.processes,
        "uid": _UID,
        "root": str(_folder(private / "root")),
        "tmpfs_bytes": (bounds.disk_mb << 20) // 4,
        "symlinks": [(path, str(Path(path).readlink())) for path in _SYSTEM if Path(path).is_symlink()],
        "read_only": _read_only(private) if isolated else [],
        "mounts": [(str(mount.source.resolve()), mount.target, mount.writable) for mount in mounts],
    }


def command_line(program: str, extra: tuple[str, ...], config: Mapping[str, object]) -> list[str]:
    """The command that sets up the sandbox of `config` and then runs what it says."""
    source = files("steergraph.sandbox").joinpath("init.py").read_text(encoding="utf-8")
    init = [sys.executable, "-I", "-S", "-c", source, json.dumps(config)]
    kind = config["kind"]
    if kind == "unshare":
        spaces = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
        return [program, *spaces, "--fork", "--kill-child=KILL", "--", *init]
    if kind == "bwrap":
        return [program, *extra, *_bwrap_options(config), "--", *init]
    return init


def extra_options(kind: Kind, program: str) -> tuple[str, ...]:
    """Options that only newer versions have: no user namespaces inside, where the kernel is easier to attack."""
    if kind != "bwrap":
        return ()
    said = subprocess.run([program, "--help"], capture_output=True, text=True, errors="replace", check=False)
    return ("--disable-userns",) if "--disable-userns" in said.stdout + said.stderr else ()


def _bwrap_options(config: Mapping[str, object]) -> list[str]:
    size = str(config["tmpfs_bytes"])
    options = [
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "sandbox"),
        *("--uid", str(_UID), "--gid", str(_UID)),
    ]
    for name, target in config["symlinks"]:  # type: ignore[attr-defined]
        options += ["--symlink", target, name]
    options += ["--dev", "/dev", "--size", size, "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    options += ["--size", size, "--perms", "1777", "--tmpfs", "/tmp", "--proc", "/proc"]
    # For root a user namespace is no shield here: its processes own these files even without a capability.
    for name in PROC_READ_ONLY:
        options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for source, target in config["read_only"]:  # type: ignore[attr-defined]
        options += ["--ro-bind", source, target]
    options += ["--bind", str(config["copy"]), WORKSPACE]
    for source, target, writable in config["mounts"]:  # type: ignore[attr-defined]
        options += ["--bind" if writable else "--ro-bind", source, target]
    options += ["--chdir", WORKSPACE, "--remount-ro", "/"]
    return options


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
    own = _folder(private / "etc")
    for name, text in _OWN_ETC.items():
        (own / name).write_text(text)
        mounts.append((str(own / name), f"/etc/{name}"))
    return mounts


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _kernel() -> tuple[int, ...]:
    numbers = platform.release().split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _processes_of(uid: int) -> int:
    """Threads that the user runs now, anywhere."""
    count = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                count += len(list((entry / "task").iterdir()))
    return count
