"""A control group that bounds how many processes a sandbox has, where the machine lets us make one.

The kernel's per-user limit does not hold for root, so root needs this. A group is made for one run and then removed.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

_ROOTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


class PidsGroup:
    """A group under version 1 or 2 of the interface, with at most `processes` tasks in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, processes: int) -> "PidsGroup | None":
        """A new group, or None where there is no such controller or it is not ours to use."""
        for root in _ROOTS:
            if root == _ROOTS[1] and "pids" not in _read(root / "cgroup.subtree_control").split():
                continue
            _sweep(root)
            path = root / f"steergraph-{os.getpid()}-{uuid.uuid4().hex[:12]}"
            try:
                path.mkdir()
                (path / "pids.max").write_text(str(processes))
                return cls(path)
            except OSError:
                with contextlib.suppress(OSError):
                    path.rmdir()
        return None

    def add(self, pids: Iterable[int]) -> None:
        """Move processes in; what they start from then on is in it too."""
        for pid in pids:
            with contextlib.suppress(OSError):
                (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the group. Its processes must be gone; the last of them may take a moment."""
        for _ in range(100):
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _sweep(root: Path) -> None:
    """Remove what processes left that were killed before they could. A group in use cannot be removed."""
    for path in root.glob("steergraph-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                path.rmdir()
