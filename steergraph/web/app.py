"""The application of `steergraph serve`: routes, errors, and the names it answers to."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from steergraph.base.versions import version_of
from steergraph.engine.local import LocalEngine
from steergraph.web.guard import add_errors, max_body
from steergraph.web.routes import Service
from steergraph.web.sources import Sources


def build_app(
    engine: LocalEngine,
    sources: Sources,
    *,
    name: str | None = None,
    key: str | None = None,
    max_requests: int = 64,
    hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """The application. `name`: what the model is called, by default its own; `key`: the API key that is asked for;
    `max_requests`: how many may run or wait, the next gets 429; `hosts`: the Host headers that are answered, so that no
    web page reaches a server on loopback through a name of its own. `engine`'s library becomes that of `sources`."""
    engine.library = sources.library
    app = FastAPI(
        title="steergraph serve",
        version=version_of(),
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
    )
    app.state.key = key
    app.state.max_body = max_body(engine.info.window)
    add_errors(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.include_router(Service(engine, sources, name or engine.info.name, max_requests).router())
    return app
