"""A submitted request as its owner sees it: wait, stream, cancel, await; and the end that nobody asked for.

Knows threads and futures. Knows nothing of models: the worker feeds it chunks of text and, once, its end.
"""

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from steergraph.engine.protocol import Completion


class LocalHandle:
    """Implements `protocol.Handle`. Any number of threads may wait for, stream and cancel one handle."""

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        """`on_cancel` is called after `cancel()`, in the canceller's thread: a request may not be running yet."""
        self._on_cancel = on_cancel
        self._future: Future[Completion] = Future()
        # A running future can't be cancelled from outside: cancelling is the engine's business, and it answers.
        self._future.set_running_or_notify_cancel()
        self._chunks: list[str] = []
        self._changed = threading.Condition()
        self._cancelled = threading.Event()

    def result(self, timeout: float | None = None) -> Completion:
        """The completion; raises the request's error, or TimeoutError after `timeout` seconds (it goes on running)."""
        return self._future.result(timeout)

    def stream(self) -> Iterator[str]:
        """Chunks of text from the first one on, as they come; raises the request's error where it fails."""
        sent = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda sent=sent: len(self._chunks) > sent or self._future.done())  # type: ignore[misc]
                chunks = self._chunks[sent:]
            yield from chunks
            sent += len(chunks)
            if not chunks and self._future.done():
                self._future.result()
                return

    def cancel(self) -> None:
        self._cancelled.set()
        self._on_cancel()

    def done(self) -> bool:
        return self._future.done()

    def __await__(self) -> Generator[Any, None, Completion]:
        return self._wait().__await__()

    async def _wait(self) -> Completion:
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            self.cancel()
            raise

    # For the worker.

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def feed(self, chunk: str) -> None:
        with self._changed:
            self._chunks.append(chunk)
            self._changed.notify_all()

    def succeed(self, completion: Completion) -> None:
        with self._changed:
            if not self._future.done():
                self._future.set_result(completion)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            if not self._future.done():
                self._future.set_exception(error)
            self._changed.notify_all()


class Closable(Protocol):
    def close(self) -> None: ...


def close_at_exit(engine: Closable) -> Callable[[], object]:
    """Close `engine` when the interpreter goes down, if it is still there. Returns the function that takes this back.

    A worker that is still inside torch at that moment takes the process with it.
    """
    closing = partial(_close, weakref.ref(engine))
    atexit.register(closing)
    return partial(atexit.unregister, closing)


def _close(engine: "weakref.ref[Closable]") -> None:
    if (left_open := engine()) is not None:
        left_open.close()
