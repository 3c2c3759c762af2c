"""Requests to one server through openai's client: retries, limits, and every failure as one line.

Knows nothing of models or steering. A request is sent again after 429, 5xx and broken connections, with growing pauses,
a bounded number of times: to generate or count is to change nothing, so it may run twice. The API key goes into one
header and nowhere else; redirects are not followed, so it goes to one server.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
import openai
from pydantic import BaseModel, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from steergraph.base.errors import first_problem, one_line
from steergraph.base.versions import version_of
from steergraph.engine.remote.address import Address, RemoteError
from steergraph.engine.wire.errors import error_message, error_text

T = TypeVar("T")
Record = TypeVar("Record", bound=BaseModel)
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
CONNECT_SECONDS = 10.0
MAX_EVENT = 16 * 2**20
"""Bytes that one event of a stream may have."""
MOST_PAUSE = 30.0
BACKOFF = wait_random_exponential(multiplier=0.5, max=MOST_PAUSE)
"""The pauses between attempts, in seconds: they grow, at random, so that many clients don't come back together. A
server's Retry-After counts where it is longer."""


class Retryable(Exception):
    """An attempt failed, and the next may not. The message is what is told if none succeeds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after
        """Seconds the server asked to wait."""


class _Counted(httpx2.AsyncByteStream):
    """An answer's bytes, as many as an event may have; `size` starts anew with each event."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self.size += len(data)
            if self.size > MAX_EVENT:
                raise RemoteError(f"the server sent an event of more than {MAX_EVENT} bytes")
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


class _OpenAI(openai.AsyncOpenAI):
    """openai's client without what it finds in the environment (organisation, project, headers of its own) and what it
    tells of this machine."""

    @property
    def default_headers(self) -> dict[str, Any]:
        agent = f"steergraph/{version_of('steergraph')}"
        return {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": agent}


class Client:
    """One server. Everything runs in one event loop; `aclose` ends it there."""

    def __init__(self, address: Address, backoff: wait_base = BACKOFF) -> None:
        self._address = address
        self._backoff = backoff
        self.where = address.url
        key = address.api_key()
        # Given by hand, since openai's client looks for one in OPENAI_API_KEY; many servers ask for none.
        self._options: openai.RequestOptions = {} if key else {"headers": {"Authorization": openai.omit}}
        self._openai = _OpenAI(
            api_key=key or "none",
            base_url=address.url,
            timeout=httpx2.Timeout(address.timeout, connect=min(CONNECT_SECONDS, address.timeout)),
            max_retries=0,  # its own would not go on with a stream that broke
            http_client=httpx2.AsyncClient(
                limits=httpx2.Limits(max_connections=address.parallel + 2, max_keepalive_connections=address.parallel),
                follow_redirects=False,
                verify=address.url.startswith("https:"),  # without TLS there is nothing to load certificates for
                trust_env=not address.loopback,  # a proxy can't reach this machine's loopback
            ),
        )

    async def aclose(self) -> None:
        await self._openai.close()

    async def json(self, url: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of an answer, to GET where there is no body. `url` may be below the address, as "/models". Raises
        RemoteError."""

        async def attempt() -> Any:
            with self._one_line():
                if body is None:
                    response = await self._openai.get(url, cast_to=httpx2.Response, options=self._options)
                else:
                    response = await self._openai.post(url, cast_to=httpx2.Response, body=body, options=self._options)
                return _parsed(response.content)

        return await self.retrying(attempt)

    async def stream(self, url: str, body: dict[str, Any], take: Callable[[Any], None]) -> bool:
        """One attempt at an answer: `take` gets the JSON of each event, or the one body of a server that does not
        stream. Returns whether it streamed. Raises RemoteError, Retryable and what `take` raises; the connection is
        then closed."""
        with self._one_line():
            response = await self._openai.post(
                url,
                cast_to=httpx2.Response,
                body=body,
                options=self._options,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
            assert isinstance(response, httpx2.Response)
            response.stream = counted = _Counted(response.stream)
            async with openai.AsyncStream(cast_to=object, response=response, client=self._openai) as events:
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    content = _parsed(await response.aread())
                    if isinstance(content, dict) and content.get("error"):
                        raise self._told(content["error"])
                    take(content)
                    return False
                async for event in events:
                    counted.size = 0
                    take(event)
        return True

    async def retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """`attempt()` until one succeeds. Raises RemoteError with the last failure where none does."""

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(self._backoff(state), min(getattr(error, "after", 0.0), MOST_PAUSE))

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Retryable),
            stop=stop_after_attempt(self._address.retries + 1),
            wait=pause,
            reraise=True,
        )
        try:
            return await attempts(attempt)
        except Retryable as error:
            number = attempts.statistics["attempt_number"]
            tried = f" ({number} attempts)" if number > 1 else ""
            raise RemoteError(f"{self.where}: {error}{tried}") from error

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Every failure as RemoteError, or as Retryable where it may pass."""
        try:
            yield
        except openai.APIStatusError as error:
            raise self._refused(error.response) from error
        except (openai.APIConnectionError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
            raise self._broken(cause) from error
        except openai.APIError as error:
            raise self._told(error.body) from error
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            text = one_line(getattr(error, "doc", ""), 80)
            raise RemoteError(f"{self.where}: it answered with something that is not JSON: {text}") from error

    def _told(self, error: object) -> Exception:
        """What a server that had begun to answer says of an error."""
        message = error_message({"error": error}) or "an error without a message"
        code = error.get("code") if isinstance(error, dict) else None
        return Retryable(message) if code in AGAIN else RemoteError(f"{self.where}: {message}")

    def _broken(self, error: BaseException | None) -> Exception:
        where, words = self.where, one_line(str(error)) or type(error).__name__
        match error:
            case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return Retryable(f"no connection in {CONNECT_SECONDS:g} s")
            case httpx2.TimeoutException():
                return RemoteError(f"{where}: nothing came for {self._address.timeout:g} s; option timeout allows more")
            case httpx2.NetworkError():
                return Retryable(f"no connection ({words})")
            case httpx2.RemoteProtocolError():
                return Retryable(f"the answer was cut off ({words})")
        return RemoteError(f"{where}: {words}")

    def _refused(self, response: httpx2.Response) -> Exception:
        where, status, reason = self.where, response.status_code, error_text(response.text)
        if status in AGAIN:
            return Retryable(f"status {status}: {reason}", _seconds(response.headers.get("retry-after", "")))
        if status in (401, 403):
            key = "was refused" if self._address.api_key() else "is not set"
            return RemoteError(f"{where}: status {status}, the API key in {self._address.key} {key}: {reason}", status)
        if 300 <= status < 400:
            return RemoteError(f"{where}: it redirects (status {status}); give where to", status)
        return RemoteError(f"{where}: status {status}: {reason}", status)


def shaped(kind: type[Record], content: object, where: str, problem: str = "its answer is of another shape") -> Record:
    """What a server answered as a record. Raises RemoteError where it is none."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise RemoteError(f"{where}: {problem} ({first_problem(error)})") from error


def _parsed(content: bytes) -> Any:
    return json.loads(content.decode("utf-8", errors="replace"))


def _seconds(text: str) -> float:
    """Retry-After in seconds; a date counts as none, the pause of our own is then as good."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
