"""A steering vector: directions by layer, with provenance.

Knows what a vector says of itself. Knows nothing of how vectors are made, stored or applied.
"""

import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from steergraph.base.errors import InputError
from steergraph.vectors.store.header import held_out_auroc


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
        return held_out_auroc(self.metadata)

    @property
    def layers(self) -> tuple[int, ...]:
        """Those with a direction, in order."""
        return tuple(sorted(self.directions))

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

    Args:
        name: what it is called in a library, and in a `Component`.
        directions: [hidden_size] by layer, the 0-based block whose output is edited; raw, not normalised.
        model: as `ModelInfo.name`; with it, no other model is steered with the vector. "" where it is not known.
        revision: of the model; "" where it is not known.
        method: how it was made.
        contrast_hash: of the contrast set that it was made from.
        read_position: where activations were read.
        median_residual_norms: median length of the residual by layer; left out, the engine measures it.
        settings: what the method depends on or chose, JSON-like.
        parents: hashes of the vectors that it was made of.
        metadata: anything else, JSON-like.

    Returns:
        The vector, its directions copied to float32 on the CPU.

    Raises:
        InputError: a layer has no number, two have the same, or a direction is not a finite row of numbers as wide as
            the others.
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


def _feed(digest: Any, data: bytes) -> None:
    """Length first, so that no two sequences of fields feed the same bytes."""
    digest.update(struct.pack("<q", len(data)))
    digest.update(data)
