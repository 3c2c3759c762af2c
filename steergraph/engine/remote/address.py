"""A server's address as one text: `http://HOST:PORT/v1?OPTION=VALUE#MODEL`.

Knows how it is written and what is wrong with one. Knows nothing of requests.
"""

import ipaddress
import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field

from steergraph.base.errors import InputError, first_problem
from steergraph.base.records import Frozen

KEY_VARIABLE = "STEERGRAPH_API_KEY"
"""The environment variable an API key is read from unless the address names another."""
OPTIONS = ("vectors", "window", "tokenizer", "key", "timeout", "parallel", "retries")


class RemoteError(InputError):
    """A server can't do what it is asked, or its answer is of no use. One line."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, where that was the trouble."""


class Address(Frozen):
    """Where a model is and how it is asked. Never holds a key, so it may be written down."""

    url: str
    """The API's root, as "http://localhost:8000/v1"."""
    model: str | None = None
    """The name it is served by; None where the server has only one."""
    vectors: str | None = None
    """The folder in which an EasySteer server finds `NAME.gguf` (its own path, "." for its working folder). None: the
    server steers if it says so itself, as `steergraph serve` does."""
    window: int | None = Field(default=None, ge=16, le=100_000_000)
    """Tokens of prompt and answer together, where the server does not say."""
    tokenizer: str | None = None
    """A local folder with the model's tokenizer, to count and to encode without asking."""
    key: str = Field(default=KEY_VARIABLE, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    """The environment variable that holds the API key."""
    timeout: float = Field(default=120.0, gt=0, le=86400)
    """Seconds without a byte from the server before a request is given up."""
    parallel: int = Field(default=8, ge=1, le=1024)
    """Requests that may be with the server at one time."""
    retries: int = Field(default=4, ge=0, le=20)
    """How often a request that failed without its own fault is sent again."""

    @property
    def root(self) -> str:
        """The server without the API's version: where `/tokenize` is."""
        return re.sub(r"/v\d+$", "", self.url)

    @property
    def loopback(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")

    def api_key(self) -> str | None:
        """The key, read now. Raises RemoteError where it is nothing that a header can hold; the key is not told."""
        key = os.environ.get(self.key, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise RemoteError(f"{self.key} holds characters that no API key has")
        return key or None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(model: str) -> bool:
    """Whether a model's name is a server's address."""
    return re.match(r"https?:", model, flags=re.IGNORECASE) is not None


def parse_address(text: str) -> Address:
    """Take an address apart. Raises RemoteError (one line) for anything that is not one."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise RemoteError(f"{text}: not an address ({error})") from error
    # Not echoed: what stands before the @ is a secret.
    if parts.username is not None or parts.password is not None:
        raise RemoteError(
            f"the address of {parts.hostname} holds a user or password; put an API key into {KEY_VARIABLE} instead"
        )
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == 0:
        raise RemoteError(f"{text}: not an address; write http://HOST:PORT/v1#MODEL")
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError as error:
        raise RemoteError(f"{text}: its options are not of the form name=value&name=value") from error
    for name, value in pairs:
        if name not in OPTIONS or name in options or not value.strip():
            raise RemoteError(
                f"{text}: option {name!r} is unknown, empty or there twice; known are {', '.join(OPTIONS)}"
            )
        options[name] = value
    path = parts.path.rstrip("/") or "/v1"
    try:
        return Address(
            url=f"{parts.scheme.lower()}://{parts.netloc}{path}",
            model=unquote(parts.fragment) or None,
            **options,  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise RemoteError(f"{text}: {first_problem(error)}") from error
