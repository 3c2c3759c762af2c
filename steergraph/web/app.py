"""The routes of `steergraph serve`: an OpenAI-compatible API in front of one engine.

Knows HTTP: who may ask, how much, in which shape, and that a client who leaves costs nothing more. What a body means is
`serve_bodies`' business, what an answer looks like `serve_replies`'.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from steergraph.base.errors import InputError
from steergraph.engine.handle import LocalHandle
from steergraph.engine.loading.chat import Chat
from steergraph.engine.local import EngineClosed, LocalEngine
from steergraph.engine.protocol import Completion, Handle, ScoreRequest, Usage
from steergraph.engine.streaming import pieces
from steergraph.web import bodies as bodies
from steergraph.web.replies import Reply, error_body, event
from steergraph.web.sources import Sources

MAX_BODY = 8 * 2**20
GOING_DOWN = "the server is going down"
Answer = Callable[[HttpRequest], Awaitable[Response]]


class Refused(Exception):
    """A request that is not carried out, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """One engine and what it is called."""

    def __init__(self, engine: LocalEngine, sources: Sources, name: str, key: str | None, most: int) -> None:
        self._engine, self._sources, self._name, self._key, self._most = engine, sources, name, key, most
        self._chat = Chat(engine.loaded.tokenizer)
        self._handles: list[LocalHandle] = []
        self._scoring = 0

    def routes(self) -> list[Route]:
        return [
            Route("/health", self._health),
            Route("/v1/models", self._guarded(self._models)),
            Route("/v1/chat/completions", self._guarded(self._complete_chat), methods=["POST"]),
            Route("/v1/completions", self._guarded(self._complete_text), methods=["POST"]),
            Route("/tokenize", self._guarded(self._tokenize), methods=["POST"]),
        ]

    def _guarded(self, answer: Answer) -> Answer:
        """`answer` for those with the key, and every failure in OpenAI's shape."""

        async def guarded(request: HttpRequest) -> Response:
            try:
                self._authorise(request)
                return await answer(request)
            except Refused as error:
                return _error(error.status, str(error))
            except InputError as error:
                return _error(400, str(error))
            except EngineClosed:
                return _error(503, GOING_DOWN)
            except Exception:  # its words may tell of files and memory of this machine
                return _error(500, "internal error")

        return guarded

    def _authorise(self, request: HttpRequest) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key is not None and not hmac.compare_digest(given.encode(), self._key.encode()):
            raise Refused(401, "the API key is missing or wrong")

    async def _health(self, request: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, request: HttpRequest) -> Response:
        info = self._engine.info
        told = {"info": info.model_dump(mode="json"), "vectors": self._sources.told()}
        entry = {"id": self._name, "object": "model", "created": 0, "owned_by": "steergraph"}
        return JSONResponse(
            {"object": "list", "data": [{**entry, "max_model_len": info.window, "steergraph": told}]},
        )

    async def _tokenize(self, request: HttpRequest) -> Response:
        body = bodies.parse(bodies.TokenizeBody, await _json(request))
        self._check_model(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise InputError("give either prompt or messages")
        if body.messages:
            messages = [message.ours() for message in body.messages]
            thinking = body.chat_template_kwargs.enable_thinking
            ids = self._chat.prompt(messages, enable_thinking=thinking)
        else:
            ids = self._chat.text(body.prompt or "")
        return JSONResponse({"count": len(ids), "max_model_len": self._engine.info.window, "tokens": ids})

    async def _complete_chat(self, request: HttpRequest) -> Response:
        body = bodies.parse(bodies.ChatBody, await _json(request))
        return await self._complete(request, body, None)

    async def _complete_text(self, request: HttpRequest) -> Response:
        body = bodies.parse(bodies.CompletionBody, await _json(request))
        prompt = self._chat.text(body.prompt) if isinstance(body.prompt, str) else list(body.prompt)
        if body.prompt_logprobs is None:
            return await self._complete(request, body, prompt)
        return await self._score(body, prompt)

    async def _score(self, body: bodies.CompletionBody, prompt: list[int]) -> Response:
        """`prompt_logprobs`: the prompt's own log-probabilities, and no generation."""
        self._check_model(body.model)
        if body.max_tokens != 0 or body.stream:
            raise InputError("prompt_logprobs: only with max_tokens 0 and without stream here")
        if not prompt:
            raise InputError("prompt: at least one token")
        asked = ScoreRequest(
            token_ids=tuple(prompt[:1]),
            continuation=tuple(prompt[1:]),
            steering=bodies.steering_of(body, self._sources),
        )
        self._make_room()
        self._scoring += 1
        try:
            scores = (await asyncio.to_thread(self._engine.score, [asked]))[0] if len(prompt) > 1 else None
        finally:
            self._scoring -= 1
        reply = Reply(self._name, chat=False, token_ids=body.return_token_ids, opens_thinking=False)
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=0, seconds=0.0)
        nothing = Completion(text="", thinking="", token_ids=(), finish_reason="length", usage=usage, receipt=None)
        return JSONResponse(reply.whole(nothing, reply.scored(prompt, scores)))

    async def _complete(
        self, request: HttpRequest, body: bodies.ChatBody | bodies.CompletionBody, prompt: list[int] | None
    ) -> Response:
        self._check_model(body.model)
        engine = self._engine
        asked = bodies.request_of(body, prompt, self._sources, engine.info, engine.loaded.defaults)
        ids = (
            prompt
            if prompt is not None
            else self._chat.prompt(asked.messages or (), enable_thinking=asked.enable_thinking)
        )
        reply = Reply(
            self._name,
            chat=isinstance(body, bodies.ChatBody),
            token_ids=body.return_token_ids,
            opens_thinking=self._chat.opens_thinking(ids),
        )
        self._make_room()
        handle = engine.submit(asked)
        self._handles.append(handle)
        if body.stream:
            stream = _stream(handle, reply, body.stream_options.include_usage)
            return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        return JSONResponse(reply.whole(await _while_connected(request, handle)))

    def _make_room(self) -> None:
        """Raises Refused where as many requests as may run or wait do so."""
        self._handles = [handle for handle in self._handles if not handle.done()]
        if len(self._handles) + self._scoring >= self._most:
            raise Refused(429, f"{self._most} requests are running or waiting already; try again later")

    def _check_model(self, name: str) -> None:
        if name != self._name:
            raise Refused(404, f"no model called {name[:80]!r}; this server has {self._name}")


def build_app(
    engine: LocalEngine,
    sources: Sources,
    *,
    name: str | None = None,
    key: str | None = None,
    max_requests: int = 64,
    hosts: Sequence[str] = ("*",),
) -> Starlette:
    """The application. `name`: what the model is called, by default its own; `key`: the API key that is asked for;
    `max_requests`: how many may run or wait, the next gets 429; `hosts`: the Host headers that are answered, so that no
    web page reaches a server on loopback through a name of its own. `engine`'s library becomes that of `sources`."""
    engine.library = sources.library
    service = Service(engine, sources, name or engine.info.name, key, max_requests)
    return Starlette(
        routes=service.routes(),
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={404: _no_route, 405: _no_route},
    )


async def _stream(handle: Handle, reply: Reply, usage: bool) -> AsyncIterator[str]:
    try:
        for chunk in reply.first():
            yield event(chunk)
        async for piece in pieces(handle):
            yield event(reply.piece(piece))
        completion = handle.result()
        yield event(reply.last(completion))
        if usage:
            yield event(reply.usage(completion))
        yield "data: [DONE]\n\n"
    except EngineClosed:
        yield event(error_body(503, GOING_DOWN))
    except Exception:
        yield event(error_body(500, "internal error"))
    finally:
        handle.cancel()  # the client may have left; a finished request does not mind


async def _while_connected(request: HttpRequest, handle: Handle) -> Completion:
    """The completion; a client who leaves cancels it."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def result() -> Completion:
        completion: Completion = await handle
        return completion

    done, gone = asyncio.ensure_future(result()), asyncio.ensure_future(left())
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            handle.cancel()
        return await done
    finally:
        gone.cancel()
        done.cancel()


async def _json(request: HttpRequest) -> Any:
    # Anything but JSON is refused, so that no web page can send it without the browser asking first.
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the content type is not application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise Refused(413, f"the body has more than {MAX_BODY} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is not JSON") from error


def _error(status: int, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == 429 else {}
    return JSONResponse(error_body(status, " ".join(message.split())), status_code=status, headers=headers)


async def _no_route(request: HttpRequest, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _error(status, f"{request.method} {request.url.path[:80]}: not here")
