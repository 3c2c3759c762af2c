"""Real servers to test the remote engine with: `steergraph serve` in a thread, and one that misbehaves on purpose."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn
from tenacity import wait_fixed

from steergraph.engine.local import LocalEngine
from steergraph.web.app import build_app
from steergraph.web.sources import Sources

QUICK = wait_fixed(0.01)


@contextmanager
def serving(engine: LocalEngine, vectors: Path | None = None, **how: Any) -> Iterator[str]:
    """The address of a `steergraph serve` in front of `engine`."""
    app = build_app(engine, Sources.load(vectors, engine.info), **how)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        listening.close()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def chunk(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


def sse(*contents: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(content)}\n\n" for content in contents]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


class Scripted:
    """A server that answers each POST with the next step of a script; the last one is repeated.

    A step is a function of the handler. `seen` holds (path, headers, body) of every POST.
    """

    def __init__(self, *script: Callable[["Handler"], None], models: Any = None) -> None:
        self.script = list(script)
        self.models = models if models is not None else {"data": [{"id": "m", "owned_by": "somebody"}]}
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.gone = threading.Event()
        """Set when a step found that its client had left."""

    def __enter__(self) -> str:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.scripted = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def scripted(self) -> Scripted:
        return self.server.scripted  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        if self.path == "/v1/models" and self.scripted.models:
            self.send(200, json.dumps(self.scripted.models).encode())
        else:
            self.send(404, b'{"detail": "Not Found"}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        script = self.scripted.script
        headers = {name.title(): value for name, value in self.headers.items()}
        self.scripted.seen.append((self.path, headers, body))
        (script.pop(0) if len(script) > 1 else script[0])(self)

    def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def write_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def says(*contents: Any, done: bool = True) -> Callable[[Handler], None]:
    """A whole, well-formed stream."""

    def step(handler: Handler) -> None:
        handler.send(200, sse(*contents, done=done), "text/event-stream")

    return step


def fails(status: int, message: str = "no", **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.send(status, json.dumps({"error": {"message": message}}).encode(), **headers)


def cut(*contents: Any) -> Callable[[Handler], None]:
    """A stream whose connection breaks after `contents`."""

    def step(handler: Handler) -> None:
        handler.begin_stream()
        for content in contents:
            handler.write_chunk(sse(content, done=False))
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    return step


def drips(text: str = "word ") -> Callable[[Handler], None]:
    """Never ends by itself: one piece every 20 ms until the client leaves."""

    def step(handler: Handler) -> None:
        handler.begin_stream()
        try:
            while True:
                handler.write_chunk(sse(chunk(text), done=False))
                time.sleep(0.02)
        except OSError:
            handler.scripted.gone.set()
            handler.close_connection = True

    return step


def hangs(handler: Handler) -> None:
    """Says nothing until the client leaves."""
    handler.connection.settimeout(20)
    try:
        if handler.connection.recv(1) == b"":
            handler.scripted.gone.set()
    except OSError:
        handler.scripted.gone.set()
    handler.close_connection = True
