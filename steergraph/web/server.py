"""The socket's server: says when it listens, and ends what runs before connections are cut.

Knows uvicorn. Knows nothing of engines.
"""

import asyncio
import socket
from collections.abc import Callable

import uvicorn


class Server(uvicorn.Server):
    """uvicorn's, with two calls."""

    def __init__(self, config: uvicorn.Config, *, started: Callable[[], None], ending: Callable[[], None]) -> None:
        """`started`: called once, when connections are taken. `ending`: called in a thread when the server is told to
        end, before it waits for what runs; it makes that end by itself, so that every client hears why."""
        super().__init__(config)
        self._say, self._ending = started, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._say()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.gather(asyncio.to_thread(self._ending), super().shutdown(sockets))
