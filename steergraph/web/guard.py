"""Who may ask, how much, and every failure as an error in OpenAI's shape. Knows HTTP; not engines' answers."""

import hmac
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

from steergraph.base.errors import InputError, one_line
from steergraph.engine.local import EngineClosed
from steergraph.engine.wire.errors import error_body

MAX_BODY = 8 * 2**20
BODY_BYTES, TOKEN_BYTES = 2**18, 64
"""A body may have so many bytes, and so many more for each token of the model's window: what is far longer can't fit,
and would only be tokenized to say so."""
log = logging.getLogger(__name__)
GOING_DOWN = "the server is going down"
NOT_JSON = "the body is not JSON"


def max_body(window: int) -> int:
    return min(MAX_BODY, BODY_BYTES + TOKEN_BYTES * window)


class BoundedRequest(Request):
    """A request whose body is read up to a limit."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        size = 0
        async for data in super().stream():
            size += len(data)
            if size > self.app.state.max_body:
                raise HTTPException(413, f"the body has more than {self.app.state.max_body} bytes")
            yield data


class GuardedRoute(APIRoute):
    """A route for those with the key of `app.state`; it is asked for before anything of the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            key = request.app.state.key
            scheme, _, sent = request.headers.get("authorization", "").partition(" ")
            given = sent.strip() if scheme.lower() == "bearer" else ""
            if key is not None and not hmac.compare_digest(given.encode(), key.encode()):
                raise HTTPException(401, "the API key is missing or wrong")
            # Anything but JSON is refused, so that no web page can send it without the browser asking first.
            kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
            if self.body_field is not None and kind != "application/json":
                raise HTTPException(415, "the content type is not application/json")
            return await handle(BoundedRequest(request.scope, request.receive))

        return guarded


def add_errors(app: FastAPI) -> None:
    """Every failure in OpenAI's shape, one line."""

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        message = error.detail
        if not isinstance(error, HTTPException):  # not ours: there is no such route, or the body could not be parsed
            unknown = error.status_code in (404, 405)
            message = f"{request.method} {request.url.path[:80]}: not here" if unknown else NOT_JSON
        return _answer(error.status_code, message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _answer(400, _problem(error))

    @app.exception_handler(InputError)
    async def wrong(request: Request, error: InputError) -> Response:
        return _answer(400, str(error))

    @app.exception_handler(EngineClosed)
    async def closed(request: Request, error: EngineClosed) -> Response:
        return _answer(503, GOING_DOWN)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path[:80], exc_info=error)
        return _answer(500, "internal error")  # its words may tell of files and memory of this machine


def _answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(error_body(status, " ".join(message.split())), status_code=status, headers=headers)


def _problem(error: RequestValidationError) -> str:
    """The first problem, as `first_problem` says it of other records."""
    first = error.errors()[0]
    if first["type"] == "json_invalid" or (first["loc"] == ("body",) and first["type"] == "missing"):
        return NOT_JSON
    where = ".".join(map(str, first["loc"][1:]))
    problem = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    return one_line(f"{where}: {problem}" if where else problem)
