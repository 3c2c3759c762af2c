"""The routes of `steergraph serve`: an OpenAI-compatible API in front of one engine.

Knows what is asked of the engine, how much at a time, and that a client who leaves costs nothing more. What a body
means is `bodies`' business, what an answer looks like `replies`', who may ask `guard`'s.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from sse_starlette import EventSourceResponse

from steergraph.base.errors import InputError
from steergraph.engine.handle import LocalHandle
from steergraph.engine.loading.chat import Chat
from steergraph.engine.local import EngineClosed, LocalEngine
from steergraph.engine.protocol import Completion, ScoreRequest, Usage
from steergraph.engine.protocol import Request as Generation
from steergraph.engine.streaming import text_chunks
from steergraph.engine.wire.errors import error_body
from steergraph.engine.wire.replies import ModelEntry, ModelList, Reply, SteeringOffer, Tokenized
from steergraph.web.bodies import ChatBody, CompletionBody, TokenizeBody, request_of, steering_of
from steergraph.web.guard import GOING_DOWN, GuardedRoute
from steergraph.web.replies import Replies
from steergraph.web.sources import Sources


class Service:
    """One engine and what it is called."""

    def __init__(self, engine: LocalEngine, sources: Sources, name: str, max_requests: int) -> None:
        self._engine, self._sources, self._name, self._max_requests = engine, sources, name, max_requests
        self._chat = Chat(engine.loaded.tokenizer)
        self._handles: list[LocalHandle] = []
        self._in_threads = 0

    def router(self) -> APIRouter:
        router = APIRouter(route_class=GuardedRoute)
        router.add_api_route("/v1/models", self.models)
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
        info = self._engine.info
        entry = ModelEntry(
            id=self._name,
            object="model",
            created=0,
            owned_by="steergraph",
            max_model_len=info.window,
            steergraph=SteeringOffer(info=info, vectors=self._sources.offered()),
        )
        return ModelList(object="list", data=(entry,))

    async def tokenize(self, body: TokenizeBody) -> Tokenized:
        """The tokens of a prompt, or of messages with the chat template."""
        self._check_model(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise InputError("give either prompt or messages")
        if body.messages:
            messages = [message.ours() for message in body.messages]
            ids = self._chat.prompt(messages, enable_thinking=body.chat_template_kwargs.enable_thinking)
        else:
            ids = self._chat.text(body.prompt or "")
        return Tokenized(count=len(ids), max_model_len=self._engine.info.window, tokens=tuple(ids))

    async def complete_chat(self, request: Request, body: ChatBody) -> Reply | EventSourceResponse:
        """An answer to messages, steered as the body says; with `stream` as server-sent events."""
        return await self._complete(request, body, None)

    async def complete_text(self, request: Request, body: CompletionBody) -> Reply | EventSourceResponse:
        """How a prompt goes on, or with `prompt_logprobs` how likely its own tokens are."""
        prompt = self._chat.text(body.prompt) if isinstance(body.prompt, str) else list(body.prompt)
        if body.prompt_logprobs is None:
            return await self._complete(request, body, prompt)
        return await self._score(body, prompt)

    async def _score(self, body: CompletionBody, prompt: list[int]) -> Reply:
        self._check_model(body.model)
        if body.max_tokens != 0 or body.stream:
            raise InputError("prompt_logprobs: only with max_tokens 0 and without stream here")
        if not prompt:
            raise InputError("prompt: at least one token")
        request = ScoreRequest(
            token_ids=tuple(prompt[:1]),
            continuation=tuple(prompt[1:]),
            steering=steering_of(body, self._sources),
        )
        self._make_room()
        self._in_threads += 1
        try:
            scores = (await asyncio.to_thread(self._engine.score, [request]))[0] if len(prompt) > 1 else None
        finally:
            self._in_threads -= 1
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=0, seconds=0.0)
        nothing = Completion(text="", thinking="", token_ids=(), finish_reason="length", usage=usage, receipt=None)
        replies = Replies(self._name, chat=False, token_ids=body.return_token_ids, opens_thinking=False)
        return replies.scored(nothing, prompt, scores)

    async def _complete(
        self, client: Request, body: ChatBody | CompletionBody, prompt: list[int] | None
    ) -> Reply | EventSourceResponse:
        self._check_model(body.model)
        engine, chat = self._engine, prompt is None
        request = request_of(body, prompt, self._sources, engine.info, engine.loaded.defaults)
        if prompt is None:
            prompt = self._chat.prompt(request.messages or (), enable_thinking=request.enable_thinking)
        opens_thinking = self._chat.opens_thinking(prompt)
        replies = Replies(self._name, chat=chat, token_ids=body.return_token_ids, opens_thinking=opens_thinking)
        self._make_room()
        handle = await self._submit(request)
        self._handles.append(handle)
        if body.stream:
            return EventSourceResponse(_events(handle, replies, body.stream_options.include_usage), sep="\n")
        return replies.whole(await _while_connected(client, handle))

    async def _submit(self, request: Generation) -> LocalHandle:
        """Compiling a grammar takes a while, the first one of a model seconds: not in the loop."""
        if request.grammar is None:
            return self._engine.submit(request)
        self._in_threads += 1
        try:
            return await asyncio.to_thread(self._engine.submit, request)
        finally:
            self._in_threads -= 1

    def _make_room(self) -> None:
        """Raises HTTPException where as many requests as may run or wait do so."""
        self._handles = [handle for handle in self._handles if not handle.done()]
        most = self._max_requests
        if len(self._handles) + self._in_threads >= most:
            raise HTTPException(
                429, f"{most} requests are running or waiting already; try again later", {"Retry-After": "1"}
            )

    def _check_model(self, name: str) -> None:
        if name != self._name:
            raise HTTPException(404, f"no model called {name[:80]!r}; this server has {self._name}")


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
        yield json.dumps(error_body(500, "internal error"))
    finally:
        handle.cancel()  # the client may have left; a finished request does not mind


async def _while_connected(client: Request, handle: LocalHandle) -> Completion:
    """The completion; a client who leaves cancels it."""

    async def watch() -> None:
        while (await client.receive())["type"] != "http.disconnect":
            pass
        handle.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await handle
    finally:
        watcher.cancel()
