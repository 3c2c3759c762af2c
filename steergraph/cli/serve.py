"""`steergraph serve`: one model behind an OpenAI-compatible API that can steer.

Knows the command line and the socket. What is answered is `web`'s business.
"""

import argparse
import os
import socket
from typing import Any

from steergraph.base.errors import InputError

KEY_VARIABLE = "STEERGRAPH_API_KEY"


def add_parser(commands: Any) -> None:
    """Register on the `add_subparsers()` object of the `steergraph` command."""
    serve = commands.add_parser("serve", help="an OpenAI-compatible server with a steering field")
    serve.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    serve.add_argument("--vectors", metavar="DIR", help="the vectors requests may name: *.gguf and *.safetensors")
    serve.add_argument("--name", help="what the model is called in requests (default: its own name)")
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine alone)")
    serve.add_argument("--port", type=_port, default=8000, help="default: 8000; 0 takes a free one")
    serve.add_argument(
        "--key-variable",
        default=KEY_VARIABLE,
        metavar="NAME",
        help=f"the environment variable with the API key that clients must give (default: {KEY_VARIABLE})",
    )
    serve.add_argument("--max-batch", type=_positive, default=8, metavar="N", help="rows of one batch (default: 8)")
    serve.add_argument(
        "--max-requests", type=_positive, default=64, metavar="N", help="running or waiting; more get 429 (default: 64)"
    )
    serve.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until interrupted. Raises InputError where the model, the vectors, the address or the key are no good."""
    try:
        import uvicorn

        from steergraph.web.app import build_app
    except ImportError as error:
        raise InputError(
            f"steergraph serve needs {error.name}: install steergraph with its extra, steergraph[serve]"
        ) from error
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.remote.address import is_address, is_loopback
    from steergraph.web.sources import Sources

    if is_address(arguments.model):
        raise InputError(
            "--model: a server's address can't be served again; give pocket, a folder or a Hugging Face id"
        )
    key = os.environ.get(arguments.key_variable, "").strip() or None
    if key is None and not is_loopback(arguments.host):
        raise InputError(
            f"--host {arguments.host}: others could reach it; put an API key into {arguments.key_variable}, or listen "
            "on 127.0.0.1"
        )
    listening = _listen(arguments.host, arguments.port)
    try:
        with LocalEngine(arguments.model, max_batch=arguments.max_batch) as engine:
            sources = Sources.load(arguments.vectors, engine.info)
            hosts = ("localhost", "127.0.0.1", "[") if is_loopback(arguments.host) else ("*",)
            app = build_app(
                engine, sources, name=arguments.name, key=key, max_requests=arguments.max_requests, hosts=hosts
            )
            name = arguments.name or engine.info.name
            print(f"serving {name} at {_address(listening)}#{name}", flush=True)
            print(f"vectors: {', '.join(sources.library) or 'none'}; key: {'asked for' if key else 'none'}", flush=True)
            server = uvicorn.Server(
                uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
            )
            server.run(sockets=[listening])
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


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
