"""Server-sent events out of bytes, however they are cut. Knows the text format; not HTTP, not JSON.

Lines end at a line feed and nowhere else: JSON may hold U+2028 and other marks that Python takes for line ends.
"""

from collections.abc import AsyncIterator, Iterator

from steergraph.engine.remote.address import RemoteError

MAX_EVENT = 16 * 2**20
"""Bytes one event may have."""


class Events:
    """Feed bytes, take out the data of each complete event."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """Raises RemoteError where an event is larger than any answer."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._size + len(self._rest) > MAX_EVENT:
            raise RemoteError(f"the server sent an event of more than {MAX_EVENT} bytes")
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                if self._data:
                    yield b"\n".join(self._data).decode("utf-8", errors="replace")
                self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            # Comments (keep-alives), event names and ids say nothing here.


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of every complete event in a stream of bytes; one that is cut off at the end is not handed out."""
    parser = Events()
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
