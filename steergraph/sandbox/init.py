"""The first process inside a sandbox: makes the mounts (kind `unshare`), drops rights, sets limits, runs the command.

Run as `python -I -S -c <this source> <config as JSON>`, so it needs the standard library only and no file of the
package inside. It writes one byte to `started` when all is set up (what fails before that is the sandbox's failure and
not the command's), and begins the command when it reads one from `alive`. It ends everything when that pipe closes,
which its starter's death does too. Exit status: the command's, or 128 + the signal that killed it.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
CLONE_NEWUSER, MNT_DETACH = 0x10000000, 2
PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 36, 38, 47
_KEPT_FLAGS = {0x0001: MS_RDONLY, 0x0002: MS_NOSUID, 0x0004: MS_NODEV, 0x0008: MS_NOEXEC, 0x0400: 1024, 0x1000: 1 << 21}
_KEPT_FLAGS |= {0x0800: 2048}
PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr", "latency_stats", "timer_stats")
"""What /proc lets root's processes write, capabilities or none."""
libc = ctypes.CDLL(None, use_errno=True)


def call(what: str, result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    names = [text.encode() if text is not None else None for text in (source, target, kind)]
    number = ctypes.c_ulong(flags)
    call(f"mount {target}", libc.mount(*names, number, data.encode() if data is not None else None))


def remount(target: str, flags: int) -> None:
    """Set `flags` on one mount. Flags it has already are locked in a user namespace and must be said again."""
    had = os.statvfs(target).f_flag
    for bit, flag in _KEPT_FLAGS.items():
        flags |= flag if had & bit else 0
    mount("none", target, None, MS_REMOUNT | MS_BIND | flags)


def mounts_under(target: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        points = [line.split(" ")[4].encode("latin-1", "replace").decode("unicode_escape") for line in file]
    return [point for point in points if point == target or point.startswith(target + "/")]


def bind(source: str, target: str, flags: int) -> None:
    if os.path.isdir(source):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    elif not os.path.exists(target):  # noqa: PTH110
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    mount(source, target, None, MS_BIND | MS_REC)
    for point in mounts_under(target):
        remount(point, flags)


def tmpfs(target: str, size: int, mode: str = "755") -> None:
    os.makedirs(target, exist_ok=True)  # noqa: PTH103
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode={mode},nr_inodes=65536")


def build_root(config: dict[str, Any]) -> None:
    """A new root that holds what the configuration lists and nothing else. Needs to be root of its own namespaces."""
    root, size = config["root"], config["tmpfs_bytes"]
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    tmpfs(root, 1 << 20)
    for name, target in config["symlinks"]:
        os.symlink(target, root + name)  # noqa: PTH211
    tmpfs(f"{root}/dev", 1 << 20)
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        bind(f"/dev/{device}", f"{root}/dev/{device}", MS_NOSUID | MS_NOEXEC)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{root}/dev/{name}")  # noqa: PTH211
    tmpfs(f"{root}/dev/shm", size, "1777")
    with contextlib.suppress(OSError):  # a kernel without pseudo-terminals in namespaces
        os.mkdir(f"{root}/dev/pts")  # noqa: PTH102
        mount("devpts", f"{root}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
        os.symlink("pts/ptmx", f"{root}/dev/ptmx")  # noqa: PTH211
    tmpfs(f"{root}/tmp", size, "1777")
    for source, target in config["read_only"]:
        bind(source, root + target, MS_RDONLY | MS_NOSUID | MS_NODEV)
    bind(config["copy"], root + config["cwd"], MS_NOSUID | MS_NODEV)
    for source, target, writable in config["mounts"]:
        bind(source, root + target, MS_NOSUID | MS_NODEV | (0 if writable else MS_RDONLY))
    os.makedirs(f"{root}/proc", exist_ok=True)  # noqa: PTH103
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # The last user namespace is made in `become_nobody`; nothing inside may make more of them. Newer kernels bound the
    # processes of a namespace too, though not below 301.
    for name, value in (("user/max_user_namespaces", 1), ("kernel/pid_max", max(512, config["processes"]))):
        with contextlib.suppress(OSError), open(f"{root}/proc/sys/{name}", "w") as file:  # noqa: PTH123
            file.write(str(value))
    for name in PROC_READ_ONLY:
        if os.path.exists(f"{root}/proc/{name}"):  # noqa: PTH110
            bind(f"{root}/proc/{name}", f"{root}/proc/{name}", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    remount(f"{root}/dev", MS_RDONLY | MS_NOSUID)
    os.chdir(root)
    call("pivot_root", libc.pivot_root(b".", b"."))
    call("umount", libc.umount2(b".", MNT_DETACH))
    os.chdir("/")
    remount("/", MS_RDONLY | MS_NOSUID | MS_NODEV)
    socket.sethostname("sandbox")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:  # servers under test listen on 127.0.0.1
        fcntl.ioctl(link, 0x8914, struct.pack("16sH14x", b"lo", 1))


def become_nobody(uid: int) -> None:
    """Enter a user namespace below, with an ordinary user's number: the mounts above are locked from here on."""
    call("unshare", libc.unshare(CLONE_NEWUSER))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{uid} 0 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
            file.write(text)


def drop_rights() -> None:
    """No capability is left or can come back, and no set-uid program counts."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    call("no_new_privs", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    call("capset", libc.capset(header, nothing))


def set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def descendants(of: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [of]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def kill_descendants() -> None:
    """End all that came from here. They are stopped first, so that none can fork while the others die."""
    for _ in range(200):
        alive = descendants(os.getpid())
        if not alive:
            return
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in descendants(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal_number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def start(config: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(config["cwd"])
        set_limits(config["limits"])
        os.execvpe(config["command"][0], config["command"], config["env"])
    except FileNotFoundError:
        os.write(2, f"{config['command'][0]}: no such command\n".encode("utf-8", "replace"))
        os._exit(127)
    except BaseException as error:
        os.write(2, f"cannot start the command: {error}\n".encode("utf-8", "replace"))
        os._exit(126)


def wait(child: int, alive: int) -> int:
    """The exit status of `child`, with every orphan reaped on the way; 137 if the starter went away first."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == child:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
                if not pid:
                    break
        ready = select.select([alive, woken], [], [], 1.0)[0]
        if woken in ready:
            os.read(woken, 4096)
        if alive in ready:
            return 137


def main() -> None:
    config = json.loads(sys.argv[1])
    started, alive = config["started"], config["alive"]
    os.set_inheritable(started, False)
    os.set_inheritable(alive, False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if config["kind"] == "unshare":
        build_root(config)
        become_nobody(config["uid"])
    elif config["kind"] == "limits":
        call("subreaper", libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    drop_rights()
    os.write(started, b"1")
    os.close(started)
    if not os.read(alive, 1):  # the starter counts us first
        os._exit(137)
    code = wait(start(config), alive)
    if config["kind"] == "limits":
        kill_descendants()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
