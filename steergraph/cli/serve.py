"""`steergraph serve`: one model behind an OpenAI-compatible API that can steer.

Knows the command line and the socket. What is answered is `web`'s business.
"""

import os
import socket
from typing import Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.cli.options import Model, Weights
from steergraph.engine.remote.address import KEY_VARIABLE


def serve(
    *,
    model: Model = "pocket",
    weights: Weights = "auto",
    vectors: Annotated[
        str | None, typer.Option(metavar="DIR", help="the vectors requests may name: *.gguf and *.safetensors")
    ] = None,
    name: Annotated[str | None, typer.Option(help="what requests call the model (default: its own name)")] = None,
    host: Annotated[str, typer.Option(help="where to listen; the default is this machine alone")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    key_variable: Annotated[
        str, typer.Option(metavar="NAME", help="the environment variable with the API key that clients must give")
    ] = KEY_VARIABLE,
    max_batch: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="rows of one batch")] = 8,
    max_requests: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="running or waiting; more get 429")
    ] = 64,
) -> int:
    """Serve until interrupted. Raises InputError where the model, the vectors, the address or the key are no good."""
    try:
        import uvicorn

        from steergraph.web.app import build_app
        from steergraph.web.server import Server
    except ImportError as error:
        raise InputError(
            f"steergraph serve needs {error.name}: install steergraph with its extra, steergraph[serve]"
        ) from error
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.remote.address import is_address, is_loopback
    from steergraph.web.sources import Sources

    if is_address(model):
        raise InputError(
            "--model: a server's address can't be served again; give pocket, a folder or a Hugging Face id"
        )
    key = os.environ.get(key_variable, "").strip() or None
    if key is None and not is_loopback(host):
        raise InputError(
            f"--host {host}: others could reach it; put an API key into {key_variable}, or listen on 127.0.0.1"
        )
    listening = _listen(host, port)
    try:
        with LocalEngine(model, max_batch=max_batch, weights=weights) as engine:
            sources = Sources.load(vectors, engine.info)
            hosts = ("localhost", "127.0.0.1", "[") if is_loopback(host) else ("*",)
            app = build_app(engine, sources, name=name, key=key, max_requests=max_requests, hosts=hosts)
            shown = name or engine.info.name

            def say() -> None:
                there, asked = ", ".join(sources.library) or "none", "asked for" if key else "none"
                print(f"serving {shown} at {_address(listening)}#{shown}", flush=True)
                print(f"vectors: {there}; key: {asked}", flush=True)

            config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
            Server(config, started=say, ending=engine.close).run(sockets=[listening])
    finally:
        listening.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InputError(f"--host {host} --port {port}: can't listen there ({error.strerror or error})") from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
