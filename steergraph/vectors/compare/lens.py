"""The logit lens: which tokens a direction or a residual speaks for, by the model's own final norm and unembedding.

Knows where models keep their final norm. Knows nothing of steering. A lens shows what would be read if the rest of the
network did nothing; it is a hint, and says least about early layers. (nostalgebraist 2020, "Interpreting GPT: the logit
lens".)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steergraph.engine.loading.layers import text_config
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.steering.directions import SteeringError, check_fits
from steergraph.vectors.vector import SteeringVector

NORMS = (
    "model.norm",
    "model.embedding_norm",  # LFM2: its last norm, whatever the name says
    "model.language_model.norm",
    "language_model.model.norm",
    "model.final_layernorm",
    "model.final_layer_norm",
    "model.decoder.final_layer_norm",
    "transformer.ln_f",
    "transformer.norm_f",
    "gpt_neox.final_layer_norm",
    "backbone.norm_f",
)


@dataclass(frozen=True)
class Seen:
    """One token under the lens."""

    token: str
    id: int
    logit: float


@dataclass(frozen=True)
class Look:
    """What the lens shows at one layer."""

    promoted: tuple[Seen, ...]
    """Highest first."""
    demoted: tuple[Seen, ...]
    """Lowest first."""


def final_norm(model: nn.Module) -> nn.Module:
    """The norm between the last block and the unembedding. Raises SteeringError where it is not found."""
    for path in NORMS:
        module: Any = model
        for name in path.split("."):
            module = getattr(module, name, None)
            if module is None:
                break
        if isinstance(module, nn.Module):
            return module
    raise SteeringError(f"{type(model).__name__}: its final norm is not known (looked at {', '.join(NORMS)})")


def residual_logits(loaded: LoadedModel, residual: torch.Tensor) -> torch.Tensor:
    """[..., vocabulary], float32: what `residual` [..., hidden] would be read as, were it the last block's output."""
    return _unembed(loaded, residual, direction=False)


def direction_logits(loaded: LoadedModel, direction: torch.Tensor) -> torch.Tensor:
    """[..., vocabulary], float32: what `direction` [..., hidden] speaks for: unembedding of norm(v) - norm(0).

    An RMS norm of 0 is 0; a layer norm's is its bias, which is there whatever the direction, and is taken off. Length
    does not count: the norm takes it away.
    """
    return _unembed(loaded, direction, direction=True)


def look(loaded: LoadedModel, logits: torch.Tensor, top: int = 10) -> Look:
    """The `top` tokens at both ends of `logits` [vocabulary]."""
    count = min(top, len(loaded.tokenizer), len(logits))
    known = logits[: len(loaded.tokenizer)]  # embeddings are often padded beyond the vocabulary
    high, low = known.topk(count), known.topk(count, largest=False)
    return Look(
        promoted=_seen(loaded, high.indices.tolist(), high.values.tolist()),
        demoted=_seen(loaded, low.indices.tolist(), low.values.tolist()),
    )


def vector_lens(
    loaded: LoadedModel, vector: SteeringVector, layers: Sequence[int] | None = None, *, top: int = 10
) -> dict[int, Look]:
    """What `vector` promotes and demotes at `layers` (all of its own by default). Raises SteeringError (one line)."""
    found: dict[int, Look] = {}
    for layer in sorted(vector.directions) if layers is None else layers:
        check_fits(vector, loaded.info, layer=layer)
        found[layer] = look(loaded, direction_logits(loaded, vector.directions[layer]), top)
    return found


def residual_lens(loaded: LoadedModel, residuals: Mapping[int, torch.Tensor], *, top: int = 10) -> dict[int, Look]:
    """What the residual [hidden] at each layer would be read as, as `text_activations` gives it."""
    return {layer: look(loaded, residual_logits(loaded, one), top) for layer, one in residuals.items()}


def _unembed(loaded: LoadedModel, states: torch.Tensor, *, direction: bool) -> torch.Tensor:
    norm, head = final_norm(loaded.model), loaded.model.get_output_embeddings()
    if head is None:
        raise SteeringError(f"{type(loaded.model).__name__}: no output embeddings, so no logits")
    weight = next(norm.parameters(), None)
    where, kind = (loaded.device, torch.float32) if weight is None else (weight.device, weight.dtype)
    with loaded.lock, torch.no_grad():
        given = states.to(where, kind)
        if direction:
            # At length sqrt(hidden), as a residual of unit entries: an epsilon in the norm then weighs nothing.
            given = given / given.float().norm(dim=-1, keepdim=True).clamp(min=1e-30).to(kind) * given.shape[-1] ** 0.5
        normed = norm(given)
        if direction:
            normed = normed - norm(torch.zeros_like(given))
        matrix = next(head.parameters(), None)  # a packed head has none, and takes what the norm gives
        logits: torch.Tensor = head(normed if matrix is None else normed.to(matrix)).float().cpu()
        if direction and getattr(head, "bias", None) is not None:
            logits = logits - head.bias.detach().float().cpu()
    cap = getattr(text_config(loaded.model), "final_logit_softcapping", None)
    if cap and not direction:
        logits = torch.tanh(logits / cap) * cap
    return logits


def _seen(loaded: LoadedModel, ids: Sequence[int], values: Sequence[float]) -> tuple[Seen, ...]:
    return tuple(
        Seen(token=loaded.tokenizer.decode([token]), id=token, logit=value)
        for token, value in zip(ids, values, strict=True)
    )
