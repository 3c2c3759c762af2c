"""Following a tree of processes from outside: what it prints, how many they are, what they hold, what they write.

Knows nothing of how the tree was started, and ends nothing.
"""

import contextlib
import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from steergraph.base.cancellation import Stopped, stopped

KilledReason = Literal["time", "memory", "processes", "disk", "output"]

_TICK_S = 0.02
_FLOOD = 64
"""A command is to be killed once it has printed so many times the output that is kept."""
_MEMORY_OF_ALL = 2
"""All processes together may hold so many times what one may: forks share pages that are counted for each."""
_OURS = 4
"""The sandbox's own program and its first processes are in the tree too."""
_DISK_LOOK_S = 1.0


class Bounds(NamedTuple):
    """memory_mb: of one process. processes: in the tree. disk_mb: of one file, and the folder's growth."""

    memory_mb: int
    processes: int
    disk_mb: int


class Ended(NamedTuple):
    """How a process ended, or which bound it passed."""

    exit_code: int
    """128 + n where signal n ended it; without a meaning where it is to be killed."""
    output: str
    output_cut: bool
    killed_reason: KilledReason | None
    seconds: float


class Watch:
    """The tree below process `root`, which works in `folder`; with None for the root, the folder alone."""

    def __init__(self, root: int | None, folder: Path, bounds: Bounds) -> None:
        self._root, self._folder, self._bounds = root, folder, bounds
        self._free = _free_bytes(folder)
        self._held = _size_of(folder)
        self._next_disk_look = 0.0

    def exceeded(self) -> Literal["memory", "processes", "disk"] | None:
        """The bound that is passed now, or None."""
        processes = [] if self._root is None else below(self._root)
        if len(processes) > self._bounds.processes + _OURS:
            return "processes"
        if sum(map(_anonymous_bytes, processes)) > _MEMORY_OF_ALL * (self._bounds.memory_mb << 20):
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


def follow(process: subprocess.Popen[bytes], watch: Watch, timeout_s: float, output_bytes: int) -> Ended:
    """Read what `process` prints and watch the bounds, until it ends or until a bound is passed.

    Raises Stopped in the thread of a coroutine that was cancelled.
    """
    assert process.stdout is not None
    began = time.monotonic()
    last, total = bytearray(), 0
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
                last += chunk
                if len(last) > 2 * output_bytes:
                    del last[:-output_bytes]
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
    code = process.returncode or 0
    return Ended(
        exit_code=code if code >= 0 else 128 - code,
        output=bytes(last[-output_bytes:]).decode("utf-8", "replace"),
        output_cut=total > output_bytes,
        killed_reason=reason,
        seconds=time.monotonic() - began,
    )


def below(root: int) -> list[psutil.Process]:
    """Every process below `root`, those that have ended and are not collected yet too."""
    try:
        return psutil.Process(root).children(recursive=True)
    except psutil.Error:
        return []


def _anonymous_bytes(process: psutil.Process) -> int:
    """Resident bytes that are its own: without the files and shared memory it has mapped."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return max(0, memory.rss - memory.shared)


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
