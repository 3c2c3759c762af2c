"""Requests to one server: headers, limits, retries, and every failure as one line.

Knows HTTP and OpenAI's error shape. Knows nothing of models or steering. A request is sent again after 429, 5xx and
broken connections, with growing pauses, a bounded number of times: to generate or count is to change nothing, so it may
run twice. The API key goes into one header and nowhere else; redirects are not followed, so it goes to one server.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import Field

from steergraph.base.errors import one_line
from steergraph.base.records import Frozen
from steergraph.engine.remote.address import Address, RemoteError

T = TypeVar("T")
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
CONNECT_SECONDS = 10.0


class Backoff(Frozen):
    """The pauses between attempts: `first` seconds, doubled each time, at most `most`, shortened at random by up to
    half so that many clients don't come back together. A server's Retry-After counts where it is longer."""

    first: float = Field(default=0.5, gt=0)
    most: float = Field(default=30.0, gt=0)

    def pause(self, attempt: int, asked: float) -> float:
        own: float = min(self.most, self.first * 2.0**attempt) * random.uniform(0.5, 1.0)
        return max(own, min(asked, self.most))


class Retryable(Exception):
    """An attempt failed, and the next may not. The message is what is told if none succeeds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after
        """Seconds the server asked to wait."""


class Http:
    """One server. Everything runs in one event loop; `aclose` ends it there."""

    def __init__(self, address: Address, backoff: Backoff) -> None:
        self._address = address
        self._backoff = backoff
        key = address.api_key()
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(address.timeout, connect=min(CONNECT_SECONDS, address.timeout)),
            limits=httpx.Limits(max_connections=address.parallel + 2, max_keepalive_connections=address.parallel),
            follow_redirects=False,
            verify=address.url.startswith("https:"),  # without TLS there is nothing to load certificates for
            trust_env=not address.loopback,  # a proxy can't reach this machine's loopback
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def json(self, method: str, url: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises RemoteError."""

        async def attempt() -> Any:
            async with self.answer(method, url, body) as response:
                return await read_json(response)

        return await self.retrying(attempt)

    async def retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """`attempt()` until one succeeds. Raises RemoteError with the last failure where none does."""
        for number in range(self._address.retries + 1):
            try:
                return await attempt()
            except Retryable as error:
                if number == self._address.retries:
                    tried = f" ({number + 1} attempts)" if number else ""
                    raise RemoteError(f"{self._address.url}: {error}{tried}") from error
                await asyncio.sleep(self._backoff.pause(number, error.after))
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def answer(self, method: str, url: str, body: Any = None) -> AsyncIterator[httpx.Response]:
        """An answer of status 200 whose body is still to be read. Raises Retryable or RemoteError, also for what goes
        wrong while the body is read; leaving it early closes the connection."""
        try:
            async with self._client.stream(method, url, json=body) as response:
                if response.status_code != 200:
                    await self._refuse(response)
                yield response
        except httpx.TimeoutException as error:
            if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
                raise Retryable(f"no connection in {CONNECT_SECONDS:g} s") from error
            raise RemoteError(
                f"{self._address.url}: nothing came for {self._address.timeout:g} s; option timeout allows more"
            ) from error
        except httpx.NetworkError as error:
            raise Retryable(f"no connection ({one_line(str(error)) or type(error).__name__})") from error
        except httpx.RemoteProtocolError as error:
            raise Retryable(f"the answer was cut off ({one_line(str(error))})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(f"{self._address.url}: {one_line(str(error)) or type(error).__name__}") from error

    async def _refuse(self, response: httpx.Response) -> None:
        status = response.status_code
        await response.aread()
        said = error_text(response.text)
        if status in AGAIN:
            raise Retryable(f"status {status}: {said}", _seconds(response.headers.get("retry-after", "")))
        if status in (401, 403):
            given = "was refused" if self._address.api_key() else "is not set"
            raise RemoteError(
                f"{self._address.url}: status {status}, the API key in {self._address.key} {given}: {said}", status
            )
        if 300 <= status < 400:
            raise RemoteError(f"{self._address.url}: it redirects (status {status}); give where to", status)
        raise RemoteError(f"{self._address.url}: status {status}: {said}", status)


async def read_json(response: httpx.Response) -> Any:
    """The body as JSON. Raises RemoteError where it is none."""
    text = (await response.aread()).decode("utf-8", errors="replace")
    return parse_json(text, f"{response.request.url.host}")


def parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"{where}: it answered with something that is not JSON: {one_line(text, 80)}") from error


def error_text(body: str) -> str:
    """What an error's body says: OpenAI's `error.message`, FastAPI's `detail`, or the beginning of the text."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return one_line(body, 200) or "no reason given"
    return error_message(found) or one_line(body, 200)


def error_message(found: object) -> str | None:
    """The message of an object in one of the usual error shapes, or None."""
    if not isinstance(found, dict):
        return None
    for key in ("error", "message", "detail"):
        value = found.get(key)
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value.strip():
            return one_line(value)
    return None


def _seconds(text: str) -> float:
    """Retry-After in seconds; a date counts as none, the pause of our own is then as good."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
