"""Work in a thread that a coroutine waits for, and how it hears that nobody waits any more.

Knows threads and coroutines. Knows nothing of processes: whoever runs one asks `stopped()` as it waits, and kills it.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

LOOK_S = 0.05
"""How often whoever waits for a process should ask."""
_PATIENCE_S = 10.0

Done = TypeVar("Done")
_event: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("stopping", default=None)


class Stopped(Exception):
    """The coroutine that wanted this was cancelled. Nobody sees it but the thread."""


def stoppable() -> bool:
    """Whether `stopped` can ever be true here."""
    return _event.get() is not None


def stopped() -> bool:
    """Whether the coroutine that waits for this thread was cancelled."""
    event = _event.get()
    return event is not None and event.is_set()


async def in_thread(work: Callable[[], Done]) -> Done:
    """What `work` returns, called in a thread with this context. Cancelling the coroutine stops the work, and is only
    over when the thread has ended, so that no process is left (or after 10 seconds, where it does not listen)."""
    event = threading.Event()
    context = contextvars.copy_context()
    context.run(_event.set, event)
    future = asyncio.get_running_loop().run_in_executor(None, context.run, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        event.set()
        await asyncio.wait({future}, timeout=_PATIENCE_S)
        if future.done() and not future.cancelled():
            future.exception()  # looked at, so that nobody reports it as lost
        raise
