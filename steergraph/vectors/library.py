"""Steering vectors with provenance, and the library that finds them by name.

Knows the file format (safetensors, metadata in the header) and what makes a vector fit a model. Knows nothing of how
vectors are made or applied.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from steergraph.configs import InputError


class SteeringError(InputError):
    """A steering that can't be carried out: unknown vector, other width or model, layer out of range."""


class SteeringVector(BaseModel):
    """Directions by layer, with provenance. `directions[layer]` has shape [hidden_size], float32, raw (not normalised)."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    directions: Mapping[int, torch.Tensor]
    model: str
    revision: str
    hidden_size: int
    method: str
    contrast_hash: str
    read_position: str
    raw_norms: Mapping[int, float]
    median_residual_norms: Mapping[int, float]
    metadata: Mapping[str, Any] = {}

    @property
    def hash(self) -> str:
        raise NotImplementedError


class Library(Mapping[str, SteeringVector]):
    """Vectors by name."""

    def __init__(self, vectors: Mapping[str, SteeringVector] | None = None) -> None:
        self._vectors = dict(vectors or {})

    def __getitem__(self, name: str) -> SteeringVector:
        return self._vectors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)
