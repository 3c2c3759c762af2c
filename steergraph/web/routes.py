"""The routes of `steergraph serve`: an OpenAI-compatible API in front of one engine.

Knows what is asked of the engine, how much at a time, and that a client who leaves costs nothing more. What a body
means is `bodies`' business, what an answer looks like `replies`', who may ask `guard`'s.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from fastapi import APIRouter, HTTPException, Request
from sse_starlette import EventSourceResponse

from steergraph.base.errors import InputError
from steergraph.engine.handle import LocalHandle
from steergraph.engine.loading.chat import Chat
from steergraph.engine.local import EngineClosed, LocalEngine
from steergraph.engine.protocol import Completion, ScoreRequest, Scores, Usage
from steergraph.engine.protocol import Request as Generation
from steergraph.engine.streaming import text_chunks
from steergraph.engine.wire.errors import error_body
from steergraph.engine.wire.replies import ModelEntry, ModelList, Reply, SteeringOffer, Tokenized
from steergraph.engine.wire.tool_calls import format_of
from steergraph.web.bodies import ChatBody, CompletionBody, TokenizeBody, request_of, steering_of
from steergraph.web.guard import GOING_DOWN, GuardedRoute
from steergraph.web.messages import engine_messages
from steergraph.web.replies import Replies
from steergraph.web.sources import Sources

GRACE_S = 4.0
"""How long a stream may still speak when the server ends; less than uvicorn waits before it cancels."""
log = logging.getLogger(__name__)


class Service:
    """One engine and what it is called."""

    def __init__(self, engine: LocalEngine, sources: Sources, name: str, max_requests: int) -> None:
        self._engine, self._sources, self._name, self._max_requests = engine, sources, name, max_requests
        self._chat = Chat(engine.loaded.tokenizer)
        self._format = format_of(getattr(engine.loaded.tokenizer, "chat_template", None))
        self._handles: list[LocalHandle] = []
        self._in_threads = 0

    def router(self) -> APIRouter:
        router = APIRouter(route_class=GuardedRoute)
        router.add_api_route("/v1/models", self.models)
        router.add_api_route("/v1/models/{name:path}", self.model)
        for path, answer, reply in (
            ("/v1/chat/completions", self.complete_chat, Reply),
            ("/v1/completions", self.complete_text, Reply),
            ("/tokenize", self.tokenize, Tokenized),
        ):
            router.add_api_route(
                path, answer, methods=["POST"], response_model=reply, response_model_exclude_unset=True
            )
        return router

    async def models(self) -> ModelList:
        """The one model, its size and the vectors that requests may name."""
        return ModelList(object="list", data=(await self.model(self._name),))

    async def model(self, name: str) -> ModelEntry:
        """The model of that name."""
        self._check_model(name)
        info = self._engine.info
        return ModelEntry(
            id=self._name,
            object="model",
            created=0,
            owned_by="steergraph",
            max_model_len=info.window,
            steergraph=SteeringOffer(info=info, vectors=self._sources.offered()),
        )

    async def tokenize(self, body: TokenizeBody) -> Tokenized:
        """The tokens of a prompt, or of messages with the chat template."""
        self._check_model(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise InputError("give either prompt or messages")
        with self._room(1):
            if body.messages:
                messages = engine_messages(body.messages, self._format)
                thinking = body.chat_template_kwargs.enable_thinking
                ids = await asyncio.to_thread(self._chat.prompt, messages, enable_thinking=thinking)
            else:
                ids = await asyncio.to_thread(self._chat.text, body.prompt or "")
        return Tokenized(count=len(ids), max_model_len=self._engine.info.window, tokens=tuple(ids))

    async def complete_chat(self, request: Request, body: ChatBody) -> Reply | EventSourceResponse:
        """An answer to messages, steered as the body says; with `stream` as server-sent events."""
        self._check_model(body.model)
        messages = engine_messages(body.messages, self._format)
        asked = request_of(body, messages, self._sources, self._engine.info, self._engine.loaded.defaults)
        with self._room(1):
            thinking = asked.enable_thinking
            prompt = await asyncio.to_thread(self._chat.prompt, messages, enable_thinking=thinking)
            handles = await self._submit([asked])
        return await self._answer(request, body, handles, prompt)

    async def complete_text(self, request: Request, body: CompletionBody) -> Reply | EventSourceResponse:
        """How prompts go on, or with `prompt_logprobs` how likely their own tokens are."""
        self._check_model(body.model)
        if body.stream and len(body.prompts) > 1:
            raise InputError("stream: one prompt at a time here")
        with self._room(len(body.prompts)):
            prompts = await asyncio.to_thread(self._token_ids, body.prompts)
            if body.prompt_logprobs is not None:
                return await self._score(body, prompts)
            info, defaults = self._engine.info, self._engine.loaded.defaults
            asked = [request_of(body, prompt, self._sources, info, defaults) for prompt in prompts]
            if body.max_tokens == 0:
                handles = [_nothing(prompt) for prompt in prompts]
            else:
                handles = await self._submit(asked)
        return await self._answer(request, body, handles, prompts[0])

    def _token_ids(self, prompts: Sequence[str | tuple[int, ...]]) -> list[list[int]]:
        return [self._chat.text(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]

    async def _score(self, body: CompletionBody, prompts: list[list[int]]) -> Reply:
        if body.max_tokens != 0 or body.stream:
            raise InputError("prompt_logprobs: only with max_tokens 0 and without stream here")
        if not all(prompts):
            raise InputError("prompt: at least one token")
        steering = steering_of(body, self._sources)
        asked = [
            ScoreRequest(token_ids=tuple(prompt[:1]), continuation=tuple(prompt[1:]), steering=steering)
            for prompt in prompts
            if len(prompt) > 1
        ]
        scored = iter(await asyncio.to_thread(self._engine.score, asked))
        alone = Scores(token_ids=(), logprobs=(), receipt=None)  # before a first token there is nothing
        scores = [next(scored) if len(prompt) > 1 else alone for prompt in prompts]
        replies = Replies(self._name, chat=False, token_ids=body.return_token_ids, opens_thinking=False)
        return replies.scored([_nothing(prompt).result() for prompt in prompts], prompts, scores)

    async def _answer(
        self, client: Request, body: ChatBody | CompletionBody, handles: list[LocalHandle], prompt: list[int]
    ) -> Reply | EventSourceResponse:
        chat, opens_thinking = isinstance(body, ChatBody), self._chat.opens_thinking(prompt)
        replies = Replies(self._name, chat=chat, token_ids=body.return_token_ids, opens_thinking=opens_thinking)
        if body.stream:
            # The server's own end gives the stream time to say so.
            usage = body.stream_options.include_usage
            return EventSourceResponse(_events(handles[0], replies, usage), sep="\n", shutdown_grace_period=GRACE_S)
        return replies.whole(await _while_connected(client, handles))

    async def _submit(self, requests: Sequence[Generation]) -> list[LocalHandle]:
        """Not in the loop: a long prompt takes a while to be tokenized, and a grammar to be compiled. The handles count
        among those that run."""

        def submit() -> list[LocalHandle]:
            made: list[LocalHandle] = []
            try:
                made.extend(self._engine.submit(request) for request in requests)
            except BaseException:
                for handle in made:
                    handle.cancel()
                raise
            return made

        handles = await asyncio.to_thread(submit)
        self._handles += handles
        return handles

    @contextmanager
    def _room(self, count: int) -> Iterator[None]:
        """Places of `count` requests until their handles are kept. Raises HTTPException where as many as may run or
        wait do so."""
        self._handles = [handle for handle in self._handles if not handle.done()]
        most = self._max_requests
        if count > most:
            raise InputError(f"prompt: {count} prompts; this server takes {most} at a time")
        if len(self._handles) + self._in_threads + count > most:
            raise HTTPException(
                429, f"{most} requests are running or waiting already; try again later", {"Retry-After": "1"}
            )
        self._in_threads += count
        try:
            yield
        finally:
            self._in_threads -= count

    def _check_model(self, name: str) -> None:
        if name != self._name:
            raise HTTPException(404, f"no model called {name[:80]!r}; this server has {self._name}")


def _nothing(prompt: list[int]) -> LocalHandle:
    """Of a request that asks for no token: it is done."""
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=0, seconds=0.0)
    handle = LocalHandle(lambda: None)
    handle.succeed(Completion(text="", thinking="", token_ids=(), finish_reason="length", usage=usage, receipt=None))
    return handle


async def _events(handle: LocalHandle, replies: Replies, usage: bool) -> AsyncIterator[str]:
    try:
        for reply in replies.first():
            yield reply.model_dump_json(exclude_unset=True)
        async for piece in text_chunks(handle):
            yield replies.piece(piece).model_dump_json(exclude_unset=True)
        completion = handle.result()
        yield replies.last(completion).model_dump_json(exclude_unset=True)
        if usage:
            yield replies.usage(completion).model_dump_json(exclude_unset=True)
        yield "[DONE]"
    except EngineClosed:
        yield json.dumps(error_body(503, GOING_DOWN))
    except Exception:
        log.exception("a stream failed")
        yield json.dumps(error_body(500, "internal error"))
    finally:
        handle.cancel()  # the client may have left; a finished request does not mind


async def _while_connected(client: Request, handles: list[LocalHandle]) -> list[Completion]:
    """The completions; a client who leaves cancels them."""

    def cancel() -> None:
        for handle in handles:
            handle.cancel()

    async def watch() -> None:
        while (await client.receive())["type"] != "http.disconnect":
            pass
        cancel()

    watcher = asyncio.create_task(watch())
    try:
        return [await handle for handle in handles]
    except BaseException:
        cancel()
        raise
    finally:
        watcher.cancel()
