"""Steering vectors with provenance, and the library that finds them by name.

Knows what a vector says of itself and what makes it fit a model. Knows nothing of how vectors are made or applied; how
one lies on disk is `files`' business, whose `load_vector` and `save_vector` are offered here too.
"""

import difflib
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict

from steergraph.base.errors import InputError

if TYPE_CHECKING:
    from steergraph.engine.protocol import ModelInfo

LOCAL_REVISION = 16
"""Length of the revision of a local model: a hash of its weights. A hub commit is longer."""


class SteeringError(InputError):
    """A steering that can't be carried out: unknown vector, other width or model, layer out of range."""


class UnknownVector(SteeringError, KeyError):
    """No vector of this name. A KeyError too, so that a `Library` behaves as every mapping does."""

    __str__ = Exception.__str__


class SteeringVector(BaseModel):
    """Directions by layer, with provenance.

    `directions[layer]` has shape [hidden_size], float32, raw (not normalised).
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    directions: Mapping[int, torch.Tensor]
    model: str
    """As `ModelInfo.name`; "" where it is not known."""
    revision: str
    """As `ModelInfo.revision`; "" where it is not known."""
    hidden_size: int
    method: str
    """How it was made, as "mean_difference"."""
    contrast_hash: str
    read_position: str
    """Where activations were read, as "last_prompt_token"."""
    raw_norms: Mapping[int, float]
    """Length of each direction."""
    median_residual_norms: Mapping[int, float]
    """Median length of the residual at each layer, over the prompts it was made from, first tokens excluded. Empty
    where it is not known: the engine then measures it."""
    settings: Mapping[str, Any] = {}
    """What the method depends on or chose, JSON-like: a marker, the shrinkage by layer, the weights of a sum."""
    parents: tuple[str, ...] = ()
    """Hashes of the vectors it was made of; empty where it was made of texts."""
    metadata: Mapping[str, Any] = {}
    """Anything else worth knowing, JSON-like: held-out AUROC by layer, counts, versions."""

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the directions' float32 bytes and the provenance, hex, first 16 characters.

        The name and the free metadata do not count: a renamed vector does the same to a model.
        """
        digest = hashlib.sha256(b"steergraph vector 1\n")
        for text in (self.model, self.revision, self.method, self.contrast_hash, self.read_position):
            _feed(digest, text.encode())
        digest.update(struct.pack("<q", self.hidden_size))
        for layer in sorted(self.directions):
            digest.update(struct.pack("<q", layer))
            _feed(digest, self.directions[layer].detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        for norms in (self.raw_norms, self.median_residual_norms):
            _feed(digest, b"".join(struct.pack("<qd", layer, norms[layer]) for layer in sorted(norms)))
        if self.settings or self.parents:  # fields that came later: a vector without them keeps its hash
            later = {"settings": dict(self.settings), "parents": list(self.parents)}
            _feed(digest, json.dumps(json.loads(json.dumps(later)), sort_keys=True).encode())
        return digest.hexdigest()[:16]

    @property
    def held_out_auroc(self) -> dict[int, float]:
        """AUROC of the projection of held-out texts by layer; empty where it was not measured."""
        scores = self.metadata.get("held_out_auroc")
        if not isinstance(scores, Mapping):
            return {}
        found = ((str(layer), score) for layer, score in scores.items())
        return {int(k): float(v) for k, v in found if k.isdecimal() and isinstance(v, int | float)}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> "SteeringVector":
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("hash", None)  # pydantic copies what was cached, too
        return copied

    def __eq__(self, other: object) -> bool:
        """Same name, same hash, same metadata. (Comparing tensors field by field has no truth value.)"""
        if not isinstance(other, SteeringVector):
            return NotImplemented
        return (self.name, self.hash, dict(self.metadata)) == (other.name, other.hash, dict(other.metadata))

    def __hash__(self) -> int:
        return hash((self.name, self.hash))


def make_vector(
    name: str,
    directions: Mapping[Any, torch.Tensor],
    *,
    model: str = "",
    revision: str = "",
    method: str = "imported",
    contrast_hash: str = "",
    read_position: str = "unknown",
    median_residual_norms: Mapping[int, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    parents: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> SteeringVector:
    """A vector from bare directions, whatever their layers are called: 15, "15" and "layer_15" are all layer 15.

    Raises InputError where a layer has no number, two have the same, or a direction is not a finite row of numbers as
    wide as the others.
    """
    kept: dict[int, torch.Tensor] = {}
    for key, direction in directions.items():
        number = re.search(r"(\d+)$", str(key))
        if number is None:
            raise InputError(f"vector {name!r}: {key!r} does not end in a layer's number")
        layer = int(number[1])
        if layer in kept:
            raise InputError(f"vector {name!r}: layer {layer} is there twice")
        kept[layer] = direction.detach().to("cpu", torch.float32).contiguous()
    check_directions(name, kept)
    return SteeringVector(
        name=name,
        directions=kept,
        model=model,
        revision=revision,
        hidden_size=next(iter(kept.values())).shape[0],
        method=method,
        contrast_hash=contrast_hash,
        read_position=read_position,
        raw_norms={layer: float(direction.double().norm()) for layer, direction in kept.items()},
        median_residual_norms=dict(median_residual_norms or {}),
        settings=dict(settings or {}),
        parents=tuple(parents),
        metadata=dict(metadata or {}),
    )


def check_directions(name: str, directions: Mapping[int, torch.Tensor]) -> None:
    """Raise InputError unless there is at least one direction and all are finite and of shape [width]."""
    if not directions:
        raise InputError(f"vector {name!r}: it has no directions")
    shapes = {tuple(direction.shape) for direction in directions.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or next(iter(shapes))[0] < 1:
        raise InputError(f"vector {name!r}: directions have shapes {sorted(shapes)}, not one width")
    for layer, direction in directions.items():
        if not bool(torch.isfinite(direction).all()):
            raise InputError(f"vector {name!r}: its direction at layer {layer} has NaN or infinite entries")


def check_fits(vector: SteeringVector, info: "ModelInfo", *, layer: int | None = None, force: bool = False) -> None:
    """Raise SteeringError (one line) unless `vector` can be applied to the model, at `layer` where one is given.

    Another width never fits. Another model of the same width, or other local weights under the same name, is refused
    unless `force`d.
    """
    where = f"vector {vector.name!r}"
    if vector.hidden_size != info.hidden_size:
        raise SteeringError(
            f"{where}: made for {vector.model or 'a model'} of width {vector.hidden_size}, "
            f"{info.name} has width {info.hidden_size}"
        )
    if not force and not same_model(vector, info):
        made, loaded = f"{vector.model} {vector.revision}".strip(), f"{info.name} {info.revision}".strip()
        raise SteeringError(f"{where}: made for {made}, but loaded is {loaded}; extract it anew")
    if layer is None:
        return
    if not 0 <= layer < info.n_layers:
        raise SteeringError(f"{where}: layer {layer} is out of range, {info.name} has layers 0 to {info.n_layers - 1}")
    if layer not in vector.directions:
        raise SteeringError(f"{where}: no direction at layer {layer}, only at {layer_ranges(vector.directions)}")


def same_model(vector: SteeringVector, info: "ModelInfo") -> bool:
    """Whether both mean one model. A hub id and its local copy have one last name. Local revisions are hashes of the
    weights, so they must agree; a hub commit may change without the weights."""
    if not vector.model or (vector.revision and vector.revision == info.revision):
        return True
    if vector.model.rsplit("/", 1)[-1].lower() != info.name.rsplit("/", 1)[-1].lower():
        return False
    return not len(vector.revision) == len(info.revision) == LOCAL_REVISION


def layer_ranges(layers: Mapping[int, Any]) -> str:
    """Layers for a person: "0 to 27", or the first few where there are gaps."""
    found = sorted(layers)
    if not found:
        return "none"
    if found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")


class Library(Mapping[str, SteeringVector]):
    """Vectors by name. Read-only: a library with more in it is a new one."""

    def __init__(self, vectors: Mapping[str, SteeringVector] | None = None) -> None:
        self._vectors = dict(vectors or {})

    @classmethod
    def open(cls, folder: str | Path) -> "Library":
        """Every vector in `folder` (*.safetensors, not below), by the name it gives itself.

        Raises InputError where there is no such folder, a file is damaged, or two vectors have one name.
        """
        if not Path(folder).is_dir():
            raise InputError(f"{folder}: no such folder of vectors")
        found: dict[str, SteeringVector] = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            vector = load_vector(path)
            if vector.name in found:
                raise InputError(f"{path}: a second vector called {vector.name!r} in this folder; move one of them")
            found[vector.name] = vector
        return cls(found)

    def save(self, folder: str | Path) -> list[Path]:
        """Write every vector into `folder`, each into a file of its name. Returns the paths."""
        from steergraph.vectors.store.files import file_name

        paths = []
        for name, vector in self._vectors.items():
            kept = vector if vector.name == name else vector.model_copy(update={"name": name})
            paths.append(save_vector(kept, Path(folder) / file_name(name)))
        return paths

    def __getitem__(self, name: str) -> SteeringVector:
        """Raises UnknownVector (a SteeringError and a KeyError) that names the nearest ones."""
        try:
            return self._vectors[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._vectors, n=3, cutoff=0.3) or sorted(self._vectors)[:3]
            hint = f"nearest: {', '.join(near)}" if near else "the library is empty"
            raise UnknownVector(f"no vector called {name!r}; {hint}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)


def load_vector(path: str | Path) -> SteeringVector:
    """Read one vector. Nothing in the file is trusted; no pickle is ever opened.

    Raises InputError (one line) where the file is missing, of another format, truncated, damaged or absurdly large, and
    where a number in it is not finite.
    """
    from steergraph.vectors.store.files import read_vector

    return read_vector(Path(path))


def save_vector(vector: SteeringVector, path: str | Path) -> Path:
    """Write one vector to `path` (*.safetensors), whole or not at all. Returns the path.

    Raises InputError where it can't be written, and where the vector is one that `load_vector` would refuse.
    """
    from steergraph.vectors.store.files import write_vector

    return write_vector(vector, Path(path))


def _feed(digest: Any, data: bytes) -> None:
    """Length first, so that no two sequences of fields feed the same bytes."""
    digest.update(struct.pack("<q", len(data)))
    digest.update(data)
