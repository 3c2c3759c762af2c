"""The engine on the other side of HTTP: the protocol of `LocalEngine`, a server's model.

Knows requests in flight: their order, limits, cancelling and end. What is sent is `bodies`' business, what comes back
`answers`', how it travels `client`'s. Whether a server steers is decided before anything is sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import start_blocking_portal
from tenacity.wait import wait_base

from steergraph.engine.constrain.grammar import GrammarKind
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
from steergraph.engine.remote.answers import Answer
from steergraph.engine.remote.client import BACKOFF, Client, Retryable, shaped
from steergraph.engine.remote.score import check_scoring, score
from steergraph.engine.remote.server import Server, find_server
from steergraph.engine.remote.tokens import Tokens, estimate
from steergraph.engine.wire.replies import Reply


class RemoteEngine:
    """Implements `protocol.Engine` over an OpenAI-compatible server. A context manager: leaving it closes it."""

    def __init__(self, address: str | Address, library: Named | None = None, *, backoff: wait_base = BACKOFF) -> None:
        """Ask the server for its models.

        Args:
            address: `http://HOST:PORT/v1?OPTION=VALUE#MODEL` (docs/engines.md).
            library: the vectors that may be asked for, as the server has them: doses and hashes come from these.
            backoff: tenacity's `wait`: how long until it asks again after 429, 5xx or a broken connection.

        Raises:
            RemoteError: the address can't be read, or there is no such server or model. An InputError.
        """
        self._address = parse_address(address) if isinstance(address, str) else address
        self._library = {} if library is None else library
        self._client = Client(self._address, backoff)
        self._slots = asyncio.Semaphore(self._address.parallel)
        self._closing = False
        # The client lives in an event loop in a thread of its own, so that an engine can be used from any thread, and
        # from other loops.
        self._thread = ExitStack()
        self._portal = self._thread.enter_context(start_blocking_portal(name="steergraph-remote"))
        self._forget = close_at_exit(self)
        try:
            self._server: Server = self._run(find_server, self._client, self._address, self._library)
            self._tokens = Tokens(self._client, self._address, self._server)
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

    @property
    def grammars(self) -> frozenset[GrammarKind]:
        return self._server.grammars

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """By the local tokenizer, else by the server's /tokenize, else estimated (`tokens.estimate`). Counts that were
        asked for are kept."""
        count = self._tokens.without_asking(messages)
        return self._run(self._tokens.count, messages) if count is None else count

    def submit(self, request: Request) -> LocalHandle:
        """Queue one generation; nothing is sent yet.

        Raises:
            SteeringError: the server can't be asked for this steering.
            InputError: or for something else in the request.
        """
        endpoint, body = bodies.generation(request, self._library, self._server)

        def cancel() -> None:
            running.cancel()

        handle = LocalHandle(cancel)
        running = self._start(self._generate, request, endpoint, body, handle)
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
        scores: list[Scores] = self._run(self._score, requests)
        return scores

    def close(self) -> None:
        """End: what waits or runs fails with EngineClosed, connections are closed."""
        if self._closing:
            return
        self._closing = True
        self._portal.call(self._end)
        self._thread.close()
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """`work` in the loop's thread; cancelling the future cancels it there."""
        try:
            return self._portal.start_task_soon(work, *arguments)
        except RuntimeError as error:  # it was stopped
            raise _closed() from error

    def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        future = self._start(work, *arguments)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # From here on everything runs in the loop's thread.

    async def _end(self) -> None:
        await self._client.aclose()
        await self._portal.stop(cancel_remaining=True)

    async def _score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        async def one(request: ScoreRequest) -> Scores:
            async with self._slots:
                return await score(self._client, self._server, self._tokens, self._library, request)

        return await asyncio.gather(*map(one, requests))

    async def _generate(self, request: Request, endpoint: str, body: dict[str, Any], handle: LocalHandle) -> None:
        """Run one request to its end and tell its handle."""
        answer = Answer(handle.feed)

        async def attempt() -> None:
            answer.restart()
            where = self._address.url
            streamed = await self._client.stream(endpoint, body, lambda piece: answer.take(shaped(Reply, piece, where)))
            if answer.finish is None:
                if not streamed:
                    raise RemoteError(f"{where}: its answer holds no finished choice")
                raise Retryable("the answer was cut off")

        try:
            try:
                async with asyncio.timeout(request.deadline_s), self._slots:
                    await self._client.retrying(attempt)
                handle.succeed(self._completion(request, answer, answer.finish or "stop"))
            except TimeoutError:
                handle.succeed(self._completion(request, answer, "deadline"))
            except asyncio.CancelledError:
                if not handle.cancelled:
                    handle.fail(_closed())
                handle.succeed(self._completion(request, answer, "cancelled"))
                raise
        except Exception as error:
            handle.fail(_closed() if self._closing else error)

    def _completion(self, request: Request, answer: Answer, finish: FinishReason) -> Completion:
        if request.messages is None:
            prompt = len(request.token_ids or ())
        else:
            count = self._tokens.without_asking(request.messages)
            prompt = estimate(request.messages) if count is None else count
        return answer.completion(
            finish,
            prompt,
            lambda usage: (
                bodies.receipt_of(request.steering, self._library, self._server, usage, answer.receipt)
                if request.steering is not None
                else None
            ),
        )


def _closed() -> Exception:
    from steergraph.engine.local import EngineClosed

    return EngineClosed("the engine was closed")
