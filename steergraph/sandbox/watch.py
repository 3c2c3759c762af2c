"""Watching a tree of processes from outside: how many they are, what they hold, what they write; and ending them.

Knows /proc. Knows nothing of how the tree was started.
"""

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import Literal, NamedTuple

_MEMORY_OF_ALL = 2
"""All processes together may hold so many times what one may: forks share pages that are counted for each."""
_DISK_LOOK_S = 1.0


class Bounds(NamedTuple):
    """memory_mb: of one process. processes: in the tree. disk_mb: of one file, and the folder's growth."""

    memory_mb: int
    processes: int
    disk_mb: int


class Process(NamedTuple):
    pid: int
    parent: int
    anonymous_bytes: int


class Watch:
    """The tree below process `root`, which works in `folder`."""

    def __init__(self, root: int, folder: Path, bounds: Bounds) -> None:
        self._root, self._folder, self._bounds = root, folder, bounds
        self._free = _free_bytes(folder)
        self._held = _size_of(folder)
        self._next_disk_look = 0.0

    def exceeded(self) -> Literal["memory", "processes", "disk"] | None:
        """The bound that is passed now, or None."""
        processes = tree(self._root)
        if len(processes) > self._bounds.processes + 4:  # ours: the sandbox's own program and its first processes
            return "processes"
        if sum(process.anonymous_bytes for process in processes) > _MEMORY_OF_ALL * (self._bounds.memory_mb << 20):
            return "memory"
        return "disk" if self._disk_is_full() else None

    def _disk_is_full(self) -> bool:
        # Free space is cheap to ask and wrong where others write too: it only says when to count the files. Files that
        # are deleted but open cannot be counted, hence the second bound.
        limit = self._bounds.disk_mb << 20
        gone = self._free - _free_bytes(self._folder)
        if gone < limit:
            return False
        if gone > 4 * limit:
            return True
        now = time.monotonic()
        if now < self._next_disk_look:
            return False
        self._next_disk_look = now + _DISK_LOOK_S
        return _size_of(self._folder) - self._held > limit


class Namespace:
    """The processes in which `root`'s sandbox lives and dies: its children, one of which is the first of the namespace.

    Take hold of them once the sandbox stands, so that their end can be seen although they are not children of ours.
    """

    def __init__(self, root: int) -> None:
        self._handles = []
        for process in tree(root):
            if process.parent == root:
                with contextlib.suppress(OSError):
                    self._handles.append(os.pidfd_open(process.pid))

    def kill(self) -> None:
        for handle in self._handles:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def close(self, timeout_s: float = 30.0) -> None:
        """Wait until they are gone: a namespace's first process ends last."""
        deadline = time.monotonic() + timeout_s
        for handle in self._handles:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            os.close(handle)
        self._handles = []


def kill_tree(root: int) -> None:
    """End all below `root`, then `root`, which collects orphans (a sub-reaper) and so goes last.

    All others are stopped first, so that none can start more while the others die.
    """
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        below = [process.pid for process in tree(root) if process.pid != root]
        if not below:
            break
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in below:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
    with contextlib.suppress(OSError):
        os.kill(root, signal.SIGKILL)


def tree(root: int) -> list[Process]:
    """`root` and every living process below it."""
    page = os.sysconf("SC_PAGE_SIZE")
    children: dict[int, list[Process]] = {}
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - a scan 50 times a second
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
            if fields[0] in b"ZX":
                continue
            process = Process(int(name), int(fields[1]), int(fields[21]) * page)
        except (OSError, IndexError, ValueError):
            continue
        if process.pid == root:
            found.append(process)
        children.setdefault(process.parent, []).append(process)
    todo = [root]
    below = []
    while todo:
        for process in children.get(todo.pop(), []):
            below.append(process)
            todo.append(process.pid)
    return found + [process._replace(anonymous_bytes=_anonymous(process, page)) for process in below]


def _anonymous(process: Process, page: int) -> int:
    """Resident bytes that are its own: without the files and shared memory it has mapped."""
    try:
        with open(f"/proc/{process.pid}/statm", "rb") as file:  # noqa: PTH123
            _, resident, shared = file.read().split()[:3]
    except (OSError, ValueError):
        return 0
    return max(0, int(resident) - int(shared)) * page


def _free_bytes(folder: Path) -> int:
    try:
        free = os.statvfs(folder)
    except OSError:
        return 0
    return free.f_bavail * free.f_frsize


def _size_of(folder: Path) -> int:
    """Bytes on disk below `folder`; links are not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118
    return total
