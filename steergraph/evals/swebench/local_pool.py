"""Samples in threads of this process: many in flight, one engine, whose scheduler batches what they ask.

Knows threads and the worker. A sample starts when its repository is at hand; repositories are opened by threads of
their own, so that a long clone takes no place in flight, and nobody generates later because somebody else checks out.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from steergraph.evals.swebench.worker import Done, Unit, Worker

OPENERS = 4
_Order = tuple[int, Unit | None]


class LocalPool:
    """`results` makes the samples, at most `jobs` at a time. `folder_of` says where a sample's files go."""

    def __init__(self, worker: Worker, jobs: int, folder_of: Callable[[Unit], Path]) -> None:
        self._worker = worker
        self._jobs = jobs
        self._folder_of = folder_of

    def results(self, units: Sequence[Unit]) -> Iterator[Done]:
        """Each of `units`, done, in the order in which they end. Raises what a worker raises; the rest is given up."""
        if not units:
            return
        stopping = threading.Event()
        ready: queue.PriorityQueue[_Order] = queue.PriorityQueue()
        unopened: queue.Queue[list[tuple[int, Unit]]] = queue.Queue()
        ended: queue.Queue[Done | BaseException] = queue.Queue()
        for group in _by_repository(units):
            unopened.put(group)

        def open_repositories() -> None:
            while not stopping.is_set():
                try:
                    group = unopened.get_nowait()
                except queue.Empty:
                    return
                for at, unit in group:
                    if stopping.is_set():
                        return
                    try:
                        self._worker.prepare(unit)
                    except BaseException as error:
                        ended.put(error)
                        return
                    ready.put((at, unit))

        def make_samples() -> None:
            while not stopping.is_set():
                _, unit = ready.get()
                if unit is None:
                    return
                try:
                    ended.put(self._worker.run(unit, self._folder_of(unit)))
                except BaseException as error:
                    ended.put(error)
                    return

        # Daemons: after Ctrl-C nobody waits for a clone.
        threads = [threading.Thread(target=open_repositories, daemon=True) for _ in range(OPENERS)]
        threads += [threading.Thread(target=make_samples, daemon=True) for _ in range(min(self._jobs, len(units)))]
        for thread in threads:
            thread.start()
        try:
            for _ in units:
                # Waiting in slices: a signal is not heard by a thread that waits for ever.
                while (one := _got(ended)) is None:
                    pass
                if isinstance(one, BaseException):
                    raise one
                yield one
        finally:
            stopping.set()
            for _ in threads:
                ready.put((-1, None))


def _got(ended: "queue.Queue[Done | BaseException]") -> Done | BaseException | None:
    try:
        return ended.get(timeout=0.5)
    except queue.Empty:
        return None


def _by_repository(units: Sequence[Unit]) -> list[list[tuple[int, Unit]]]:
    groups: dict[str | None, list[tuple[int, Unit]]] = {}
    for at, unit in enumerate(units):
        groups.setdefault(unit.repo, []).append((at, unit))
    return list(groups.values())
