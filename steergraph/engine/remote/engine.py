"""The engine on the other side of HTTP: the protocol of `LocalEngine`, a server's model.

Knows requests in flight: their order, limits, cancelling and end. What is sent is `bodies`' business, what comes back
`answers`', how it travels `http`'s. Whether a server steers is decided before anything is sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from steergraph.engine.handle import LocalHandle, close_at_exit
from steergraph.engine.protocol import (
    Completion,
    FinishReason,
    Message,
    ModelInfo,
    Named,
    Request,
    ScoreRequest,
    Scores,
)
from steergraph.engine.remote import bodies
from steergraph.engine.remote.address import Address, RemoteError, parse_address
from steergraph.engine.remote.answers import Answer, parse_chunk
from steergraph.engine.remote.http import Backoff, Http, Retryable
from steergraph.engine.remote.loop import LoopThread
from steergraph.engine.remote.score import check_scoring, score
from steergraph.engine.remote.server import Server, find_server
from steergraph.engine.remote.sse import events
from steergraph.engine.remote.tokens import Tokens, estimate


class RemoteEngine:
    """Implements `protocol.Engine` over an OpenAI-compatible server. A context manager: leaving it closes it."""

    def __init__(self, address: str | Address, library: Named | None = None, *, backoff: Backoff | None = None) -> None:
        """Ask the server for its models.

        Args:
            address: `http://HOST:PORT/v1?OPTION=VALUE#MODEL` (docs/engines.md).
            library: the vectors that may be asked for, as the server has them: doses and hashes come from these.
            backoff: how long to wait before asking again after 429, 5xx or a broken connection.

        Raises:
            RemoteError: the address can't be read, or there is no such server or model. An InputError.
        """
        self._address = parse_address(address) if isinstance(address, str) else address
        self._library = {} if library is None else library
        self._loop = LoopThread("steergraph-remote")
        self._closing = False
        self._forget = close_at_exit(self)
        try:
            self._http, self._slots = self._loop.run(self._open(backoff or Backoff()))
            self._server = self._loop.run(find_server(self._http, self._address, self._library))
            self._tokens = Tokens(self._http, self._address, self._server)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> ModelInfo:
        return self._server.info

    @property
    def server(self) -> Server:
        """What the server said of itself."""
        return self._server

    @property
    def library(self) -> Named:
        return self._library

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """By the local tokenizer, else by the server's /tokenize, else estimated (`tokens.estimate`). Counts that were
        asked for are kept."""
        found = self._tokens.without_asking(messages)
        return self._run(self._tokens.count(messages)) if found is None else found

    def submit(self, request: Request) -> LocalHandle:
        """Queue one generation; nothing is sent yet.

        Raises:
            SteeringError: the server can't be asked for this steering.
            InputError: or for something else in the request.
        """
        endpoint, body = bodies.generation(request, self._library, self._server)
        running: list[asyncio.Task[None]] = []
        handle = LocalHandle(lambda: self._loop.call(lambda: _cancel(running)))
        started = self._submit(self._start(request, endpoint, body, handle, running))
        # A task that is cancelled before its first step never gets as far as telling its handle.
        started.add_done_callback(lambda future: handle.fail(_closed()) if future.cancelled() else None)
        return handle

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`, at most `parallel` at a time.

        Raises:
            InputError: as `submit`; RemoteError where the server fails. The first error there is.
        """
        handles: list[LocalHandle] = []
        try:
            handles += [self.submit(request) for request in requests]
            return [handle.result() for handle in handles]
        except BaseException:
            for handle in handles:
                handle.cancel()
            raise

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Scores in the order of `requests`, by the server's `prompt_logprobs`.

        Raises:
            RemoteError: the server has none, or fails.
            InputError: a request can't be scored.
        """
        for request in requests:
            check_scoring(request, self._library, self._server)
        scores: list[Scores] = self._run(self._score(requests))
        return scores

    def close(self) -> None:
        """End: what waits or runs fails with EngineClosed, connections are closed."""
        if self._closing:
            return
        self._closing = True
        if (http := getattr(self, "_http", None)) is not None:
            self._loop.run(http.aclose())
        self._loop.close()
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, work: Any) -> "Future[Any]":
        try:
            return self._loop.submit(work)
        except RuntimeError as error:
            raise _closed() from error

    def _run(self, work: Any) -> Any:
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # From here on everything runs in the loop's thread.

    async def _open(self, backoff: Backoff) -> tuple[Http, asyncio.Semaphore]:
        return Http(self._address, backoff), asyncio.Semaphore(self._address.parallel)

    async def _score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        async def one(request: ScoreRequest) -> Scores:
            async with self._slots:
                return await score(self._http, self._address, self._server, self._tokens, self._library, request)

        return await asyncio.gather(*map(one, requests))

    async def _start(
        self,
        request: Request,
        endpoint: str,
        body: dict[str, Any],
        handle: LocalHandle,
        running: "list[asyncio.Task[None]]",
    ) -> None:
        answer = Answer(handle.feed)
        end = self._ender(request, answer)

        def settle(task: "asyncio.Task[None]") -> None:
            if not handle.done():
                handle.succeed(end("cancelled")) if handle.cancelled else handle.fail(_closed())
            running.clear()

        task = asyncio.create_task(self._generate(request, endpoint, body, handle, answer, end))
        running.append(task)
        task.add_done_callback(settle)
        if handle.cancelled:
            task.cancel()

    async def _generate(
        self,
        request: Request,
        endpoint: str,
        body: dict[str, Any],
        handle: LocalHandle,
        answer: Answer,
        end: "Callable[[FinishReason], Completion]",
    ) -> None:
        """Run one request to its end and tell its handle; where it is cancelled, `settle` does that."""
        try:
            async with asyncio.timeout(request.deadline_s), self._slots:
                await self._http.retrying(lambda: self._attempt(endpoint, body, answer))
            handle.succeed(end(answer.finish or "stop"))
        except TimeoutError:
            handle.succeed(end("deadline"))
        except Exception as error:
            handle.fail(_closed() if self._closing else error)

    async def _attempt(self, endpoint: str, body: dict[str, Any], answer: Answer) -> None:
        answer.restart()
        url, where = f"{self._address.url}/{endpoint}", self._address.url
        async with self._http.answer("POST", url, body) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                answer.take(parse_chunk((await response.aread()).decode("utf-8", errors="replace"), where))
                if answer.finish is None:
                    raise RemoteError(f"{where}: its answer holds no finished choice")
                return
            async for event in events(response.aiter_bytes()):
                if event.strip() == "[DONE]":
                    return
                answer.take(parse_chunk(event, where))
            if answer.finish is None:
                raise Retryable("the answer was cut off")

    def _ender(self, request: Request, answer: Answer) -> Callable[[FinishReason], Completion]:
        def end(finish: FinishReason) -> Completion:
            if request.messages is None:
                prompt = len(request.token_ids or ())
            else:
                known = self._tokens.without_asking(request.messages)
                prompt = estimate(request.messages) if known is None else known
            steering = request.steering
            return answer.completion(
                finish,
                prompt,
                lambda usage: (
                    bodies.receipt_of(steering, self._library, self._server, usage, answer.extra.receipt)
                    if steering is not None
                    else None
                ),
            )

        return end


def _cancel(running: "list[asyncio.Task[None]]") -> None:
    for task in running:
        task.cancel()


def _closed() -> Exception:
    from steergraph.engine.local import EngineClosed

    return EngineClosed("the engine was closed")
