"""What the engine's tests share: vectors of a tiny model, requests, and teacher-forced logits."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tiny_models import tiny_model

from steergraph.engine.constrain.constraint import Constraint
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.protocol import Message, ModelInfo, Request, Sampling
from steergraph.engine.scoring.score import ForcedSample, forced_logits
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan, plan_steering
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.library import Library
from steergraph.vectors.vector import SteeringVector

MEDIAN = 4.0
TEXTS = (
    "Read the issue, find the cause, name the file",
    "a",
    "The patch changes one line",
    "for row in rows: print(row)",
)


def tiny_loaded(architecture: str = "qwen3", *, chat: bool = True) -> LoadedModel:
    return load_model(str(tiny_model(architecture, chat=chat)))


def tiny_vector(
    info: ModelInfo, name: str = "v", *, seed: int = 0, scale: float = 3.0, **fields: Any
) -> SteeringVector:
    """A random direction at every layer, of length `scale`; the median norm is MEDIAN everywhere."""
    generator = torch.Generator().manual_seed(seed)
    directions = {}
    for layer in range(info.n_layers):
        direction = torch.randn(info.hidden_size, generator=generator)
        directions[layer] = scale * direction / direction.norm()
    given: dict[str, Any] = {
        "name": name,
        "directions": directions,
        "model": info.name,
        "revision": info.revision,
        "hidden_size": info.hidden_size,
        "method": "random",
        "contrast_hash": "0" * 16,
        "read_position": "last",
        "raw_norms": dict.fromkeys(range(info.n_layers), scale),
        "median_residual_norms": dict.fromkeys(range(info.n_layers), MEDIAN),
    }
    return SteeringVector(**{**given, **fields})


def tiny_library(info: ModelInfo) -> Library:
    """Vectors v, w and u."""
    return Library({name: tiny_vector(info, name, seed=seed) for seed, name in enumerate("vwu")})


def steer(vector: str = "v", layer: int = 1, alpha: float = 8.0, **fields: Any) -> Steering:
    return Steering(components=(Component(vector=vector, layer=layer, alpha=alpha, **fields),))


def ask(text: str = TEXTS[0], *, tokens: int = 12, **fields: Any) -> Request:
    fields.setdefault("sampling", Sampling(max_new_tokens=tokens))
    return Request(messages=(Message(role="user", content=text),), **fields)


def plan(steering: Steering | None, loaded: LoadedModel, library: Library | None = None) -> SteeringPlan:
    if steering is None:
        return SteeringPlan()
    return plan_steering(steering, library or tiny_library(loaded.info), loaded.info, lambda layer: MEDIAN)


def logits_of(
    loaded: LoadedModel, rows: Sequence[tuple[Sequence[int], Sequence[int], Steering | None]]
) -> list[torch.Tensor]:
    """Teacher-forced logits of (prompt, continuation, steering) rows, run together."""
    hooks = SteeringHooks(loaded.model)
    try:
        return forced_logits(loaded, hooks, [ForcedSample(p, c, plan(s, loaded)) for p, c, s in rows])
    finally:
        hooks.remove()


def walk(
    held: Constraint,
    width: int,
    ends: frozenset[int],
    pick: Callable[[list[int]], int] = min,
    most: int = 400,
) -> list[int]:
    """Tokens until nothing may follow, or `most`: at each step the one that `pick` takes of those that are allowed."""
    tokens: list[int] = []
    while not held.over and len(tokens) < most:
        allowed = held.masked(torch.zeros(width), most).isfinite().nonzero().flatten().tolist()
        assert allowed, "a dead end"
        token = pick([token for token in allowed if token not in ends] or allowed)
        if token in ends:
            break
        tokens.append(token)
        held.take(token)
    return tokens
