"""What a server is: asked once, when its engine is made.

Knows the list of models that every OpenAI-compatible server has, and who says what in it. Knows nothing of requests.
"""

import re
from collections.abc import Mapping
from typing import Literal

from steergraph.base.files import file_stem
from steergraph.base.records import Frozen
from steergraph.engine.constrain.grammar import GRAMMAR_KINDS, GrammarKind
from steergraph.engine.protocol import Directions, ModelInfo, Named
from steergraph.engine.remote.address import Address, RemoteError
from steergraph.engine.remote.client import Client, shaped
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.wire.replies import ModelEntry, ModelList, OfferedVector, direction_hash

WINDOW = 4096
"""Taken where neither the server nor the address says."""
Kind = Literal["steergraph", "easysteer", "vllm", "other"]


class Server(Frozen):
    """A server and the one model of it that is asked."""

    kind: Kind
    model: str
    """The name that requests give."""
    info: ModelInfo
    """`n_layers` and `hidden_size` are the vectors' own where the server does not tell, 0 without vectors."""
    offered: tuple[OfferedVector, ...] = ()
    folder: str = ""

    @property
    def extends(self) -> bool:
        """Whether it takes vLLM's own fields and has its own endpoints, as /tokenize."""
        return self.kind != "other"

    @property
    def grammars(self) -> frozenset[GrammarKind]:
        """What it can be asked to hold an answer to. Others have grammars in dialects of their own."""
        if self.kind == "steergraph":
            return GRAMMAR_KINDS - {"after"}
        return frozenset({"json_schema", "regex", "choice"} if self.extends else {"json_schema"})

    def holds(self, vector: Directions, layer: int) -> bool:
        """Whether the server says that its direction for `vector` at `layer` is the very same."""
        source = self.source(vector)
        hashes = (offer.directions.get(layer) for offer in self.offered if offer.source == source)
        return next(hashes, None) == direction_hash(vector, layer)

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
            lambda offer: offer.hash == vector.hash,
            lambda offer: offer.name == vector.name,
            lambda offer: re.sub(r"\.\w+$", "", offer.source) == stem,
        ):
            if (match := next(filter(same, self.offered), None)) is not None:
                return match.source
        there = ", ".join(offer.source for offer in self.offered[:8]) or "none"
        raise SteeringError(f"the server has no file for vector {vector.name!r}; it has {there}")


async def find_server(client: Client, address: Address, library: Named) -> Server:
    """Ask for the models and pick one. Raises RemoteError."""
    entry = _choose(await _entries(client, address), address)
    offer = entry.steergraph
    kind: Kind = "vllm" if entry.owned_by == "vllm" else "other"
    if offer is not None:
        kind = "steergraph"
    elif address.vectors is not None:
        kind = "easysteer"
    info = offer.info if offer is not None else _info(entry, kind, library)
    if address.window is not None:
        info = info.model_copy(update={"window": address.window})
    offered = offer.vectors if offer is not None else ()
    return Server(kind=kind, model=entry.id, info=info, offered=offered, folder=address.vectors or "")


async def _entries(client: Client, address: Address) -> tuple[ModelEntry, ...]:
    try:
        return shaped(ModelList, await client.json("/models"), f"{address.url}/models", "not a list of models").data
    except RemoteError as error:
        # Some gateways have no such list. The name is then taken as it was given.
        if error.status in (404, 405, 501) and address.model is not None:
            return (ModelEntry(id=address.model),)
        raise


def _choose(entries: tuple[ModelEntry, ...], address: Address) -> ModelEntry:
    names = ", ".join(entry.id for entry in entries[:8]) or "none"
    if address.model is None:
        if len(entries) != 1:
            raise RemoteError(f"{address.url}: say which model behind a #; it has {names}")
        return entries[0]
    for entry in entries:
        if entry.id == address.model:
            return entry
    raise RemoteError(f"{address.url}: no model called {address.model!r}; it has {names}")


def _info(entry: ModelEntry, kind: Kind, library: Mapping[str, Directions]) -> ModelInfo:
    return ModelInfo(
        name=entry.id,
        revision="",
        architecture=kind,
        n_layers=max((max(vector.directions) + 1 for vector in library.values()), default=0),
        hidden_size=max((vector.hidden_size for vector in library.values()), default=0),
        window=entry.max_model_len if entry.max_model_len and entry.max_model_len > 0 else WINDOW,
        kind="instruct",
    )
