"""What a server is: asked once, when its engine is made.

Knows the list of models that every OpenAI-compatible server has, and who says what in it. Knows nothing of requests.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from steergraph.base.errors import first_problem
from steergraph.base.files import file_stem
from steergraph.base.records import Frozen, Loose
from steergraph.engine.protocol import Directions, ModelInfo, Named
from steergraph.engine.remote.address import Address, RemoteError
from steergraph.engine.remote.http import Http
from steergraph.engine.steering.directions import SteeringError, direction_hash

WINDOW = 4096
"""Taken where neither the server nor the address says."""
Kind = Literal["steergraph", "easysteer", "vllm", "other"]


class Offered(Loose):
    """A vector that `steergraph serve` can switch on."""

    source: str
    name: str
    hash: str
    directions: dict[int, str]
    """`direction_hash` of each layer's direction."""


class Told(Loose):
    """What `steergraph serve` adds to its model's entry."""

    info: ModelInfo
    vectors: tuple[Offered, ...] = ()


class _Entry(Loose):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    steergraph: Told | None = None


class _Models(Loose):
    data: tuple[_Entry, ...] = Field(default=(), max_length=10_000)


class Server(Frozen):
    """A server and the one model of it that is asked."""

    kind: Kind
    model: str
    """The name that requests give."""
    info: ModelInfo
    """`n_layers` and `hidden_size` are the vectors' own where the server does not tell, 0 without vectors."""
    offered: tuple[Offered, ...] = ()
    folder: str = ""

    @property
    def extends(self) -> bool:
        """Whether it takes vLLM's own fields and has its own endpoints, as /tokenize."""
        return self.kind != "other"

    def holds(self, vector: Directions, layer: int) -> bool:
        """Whether the server says that its direction for `vector` at `layer` is the very same."""
        source = self.source(vector)
        told = next((one.directions.get(layer) for one in self.offered if one.source == source), None)
        return told == direction_hash(vector, layer)

    def source(self, vector: Directions) -> str:
        """The server's name for the file of `vector`. Raises SteeringError where it has none, or does not steer."""
        stem = file_stem(vector.name)
        if self.kind == "easysteer":
            return f"{stem}.gguf" if self.folder == "." else f"{self.folder.rstrip('/')}/{stem}.gguf"
        if self.kind != "steergraph":
            raise SteeringError(
                f"{self.model}: this server does not steer; steer with a model in this process, with steergraph serve, "
                "or with EasySteer (say ?vectors=FOLDER, where the server has the vectors), or set steering off"
            )
        for same in (
            lambda one: one.hash == vector.hash,
            lambda one: one.name == vector.name,
            lambda one: re.sub(r"\.\w+$", "", one.source) == stem,
        ):
            if (found := next(filter(same, self.offered), None)) is not None:
                return found.source
        there = ", ".join(one.source for one in self.offered[:8]) or "none"
        raise SteeringError(f"the server has no file for vector {vector.name!r}; it has {there}")


async def find_server(http: Http, address: Address, library: Named) -> Server:
    """Ask for the models and pick one. Raises RemoteError."""
    entry = _choose(await _entries(http, address), address)
    told = entry.steergraph
    if told is not None:
        kind: Kind = "steergraph"
    elif address.vectors is not None:
        kind = "easysteer"
    else:
        kind = "vllm" if entry.owned_by == "vllm" else "other"
    info = told.info if told is not None else _info(entry, kind, library)
    if address.window is not None:
        info = info.model_copy(update={"window": address.window})
    return Server(
        kind=kind,
        model=entry.id,
        info=info,
        offered=told.vectors if told is not None else (),
        folder=address.vectors or "",
    )


async def _entries(http: Http, address: Address) -> tuple[_Entry, ...]:
    try:
        answer: Any = await http.json("GET", f"{address.url}/models")
        return _Models.model_validate(answer).data
    except ValidationError as error:
        raise RemoteError(f"{address.url}/models: not a list of models ({first_problem(error)})") from error
    except RemoteError as error:
        # Some gateways have no such list. The name is then taken as it was given.
        if error.status in (404, 405, 501) and address.model is not None:
            return (_Entry(id=address.model),)
        raise


def _choose(entries: tuple[_Entry, ...], address: Address) -> _Entry:
    names = ", ".join(entry.id for entry in entries[:8]) or "none"
    if address.model is None:
        if len(entries) != 1:
            raise RemoteError(f"{address.url}: say which model behind a #; it has {names}")
        return entries[0]
    found = next((entry for entry in entries if entry.id == address.model), None)
    if found is None:
        raise RemoteError(f"{address.url}: no model called {address.model!r}; it has {names}")
    return found


def _info(entry: _Entry, kind: Kind, library: Mapping[str, Directions]) -> ModelInfo:
    return ModelInfo(
        name=entry.id,
        revision="",
        architecture=kind,
        n_layers=max((max(vector.directions) + 1 for vector in library.values()), default=0),
        hidden_size=max((vector.hidden_size for vector in library.values()), default=0),
        window=entry.max_model_len if entry.max_model_len and entry.max_model_len > 0 else WINDOW,
        kind="instruct",
    )
