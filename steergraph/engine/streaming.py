"""A handle's chunks of text for a running event loop.

Knows threads and loops. Knows nothing of models.
"""

import asyncio
import threading
from collections.abc import AsyncIterator

from steergraph.engine.protocol import Handle


async def text_chunks(handle: Handle) -> AsyncIterator[str]:
    """What `handle.stream()` gives, without blocking the loop. Leaving early, or being cancelled, cancels the request.

    Raises the request's error where it fails.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()

    def put(item: str | BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def read() -> None:
        try:
            for chunk in handle.stream():
                put(chunk)
        except BaseException as error:
            put(error)
        else:
            put(None)

    # A thread of its own, not one of a pool: it waits for as long as the request is queued.
    threading.Thread(target=read, name="steergraph-stream", daemon=True).start()
    ended = False
    try:
        while True:
            item = await queue.get()
            if item is None or isinstance(item, BaseException):
                ended = True
                if item is not None:
                    raise item
                return
            yield item
    finally:
        if not ended:
            handle.cancel()
