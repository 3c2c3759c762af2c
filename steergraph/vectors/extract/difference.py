"""From a contrast set to a steering vector: a direction at every layer, and how well it separates unseen texts.

Knows contrast sets; how a direction is found is `methods`' business, what a model
makes of texts `activations`'. Knows nothing of steering or of where vectors are kept.
"""

from collections.abc import Sequence
from typing import Any

import torch

from steergraph.base.errors import InputError
from steergraph.engine.activations.sequences import Activations, Report, median_norms
from steergraph.engine.activations.texts import Frame, text_activations
from steergraph.engine.loading.models import LoadedModel
from steergraph.vectors.extract.contrast import ContrastSet
from steergraph.vectors.extract.methods import Method, auroc, direction
from steergraph.vectors.vector import SteeringVector

METHOD: Method = "mean_difference"
SILENT = 1e-5
"""A difference of less than this part of the residual is rounding, and such a layer gets no direction. In a first block
with a short convolution or window, the last prompt token sees only the template, which all texts share."""


def extract(
    loaded: LoadedModel,
    contrast: ContrastSet,
    *,
    name: str | None = None,
    method: Method = METHOD,
    batch_size: int = 8,
    report: Report = lambda count: None,
    positive: Activations | None = None,
    neutral: Activations | None = None,
) -> SteeringVector:
    """The vector of `contrast` on the model, called `name` (the set's own name by default).

    `positive` and `neutral` are activations on the set's sides of the same model at the set's read position, where
    they are at hand. Raises InputError where a text does not fit the model's window, the two sides do not differ, or
    activations are not finite.
    """
    where = f"contrast set {contrast.name!r}"
    neutral = neutral or read_side(loaded, contrast, "neutrals", batch_size, report)
    positive = positive or read_side(loaded, contrast, "positives", batch_size, report)
    high, low = positive.at[contrast.read], neutral.at[contrast.read]
    if not bool(torch.isfinite(high).all() and torch.isfinite(low).all()):
        raise InputError(f"{where}: the activations of {loaded.info.name} overflow; load it in float32 or bfloat16")
    held_high, held_low = contrast.held_out
    used_high, used_low = _others(held_high, high.shape[1]), _others(held_low, low.shape[1])
    medians = median_norms(positive, neutral)
    directions: dict[int, torch.Tensor] = {}
    chosen: dict[str, dict[str, Any]] = {}
    for layer in range(loaded.info.n_layers):
        found, how = direction(method, high[layer, used_high], low[layer, used_low])
        if float(found.norm()) > SILENT * float(medians[layer]):
            directions[layer], chosen[str(layer)] = found, how
    if not directions:
        raise InputError(f"{where}: {loaded.info.name} does not tell its two sides apart at any layer")
    scores = {
        layer: auroc(high[layer, list(held_high)], low[layer, list(held_low)], found)
        for layer, found in directions.items()
    }
    layers = sorted(directions)
    return SteeringVector(
        name=name or contrast.name,
        directions={k: directions[k].float().contiguous() for k in layers},
        model=loaded.info.name,
        revision=loaded.info.revision,
        hidden_size=loaded.info.hidden_size,
        method=method,
        contrast_hash=contrast.hash,
        read_position=contrast.read,
        raw_norms={k: float(directions[k].norm()) for k in layers},
        median_residual_norms={k: float(medians[k]) for k in layers},
        settings=_settings(contrast, method, chosen),
        metadata=_metadata(loaded, contrast, scores, positive.massive + neutral.massive),
    )


def _metadata(
    loaded: LoadedModel, contrast: ContrastSet, scores: dict[int, float], massive: torch.Tensor
) -> dict[str, Any]:
    held_high, held_low = map(len, contrast.held_out)
    facts: dict[str, Any] = {
        "contrast": contrast.name,
        "domain": contrast.domain,
        "language": contrast.language,
        "architecture": loaded.info.architecture,
        "model_type": getattr(loaded.model.config, "model_type", ""),
        "n_layers": loaded.info.n_layers,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "chat_template": loaded.info.kind == "instruct",
        "system_prompt": contrast.system is not None,
        "used": {"positives": len(contrast.positives) - held_high, "neutrals": len(contrast.neutrals) - held_low},
        "held_out": {"positives": held_high, "neutrals": held_low},
        "held_out_auroc": {str(layer): round(score, 4) for layer, score in sorted(scores.items())},
        "massive_tokens": {str(layer): int(massive[layer]) for layer in sorted(scores) if massive[layer]},
        "source": contrast.source,
        "positive_ids": list(contrast.positive_ids),
        "neutral_ids": list(contrast.neutral_ids),
    }
    return {name: fact for name, fact in facts.items() if fact not in ({}, [], "")}


def read_side(
    loaded: LoadedModel,
    contrast: ContrastSet,
    side: str,
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> Activations:
    """Read one side of a set ("positives" or "neutrals") where the set says. `report` gets the size of each chunk
    read."""
    texts = contrast.positives if side == "positives" else contrast.neutrals
    return text_activations(
        loaded,
        texts,
        (contrast.read,),
        frame=frame_of(contrast, side),
        where=f"contrast set {contrast.name!r}: {side}",
        batch_size=batch_size,
        report=report,
    )


def frame_of(contrast: ContrastSet, side: str) -> Frame:
    """What stands around the texts of one side."""
    system = contrast.system if side == "positives" else contrast.neutral_system
    return Frame(system=system, question=contrast.question, marker=contrast.marker)


def _others(held: Sequence[int], count: int) -> list[int]:
    out = set(held)
    return [index for index in range(count) if index not in out]


def _settings(contrast: ContrastSet, method: Method, chosen: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the direction depends on beside the texts, and what the method chose at each layer."""
    settings: dict[str, Any] = {}
    if contrast.marker:
        settings["marker"] = contrast.marker
    if contrast.question:
        settings["question"] = contrast.question
    for key in sorted({key for how in chosen.values() for key in how}):
        settings[key] = {layer: how[key] for layer, how in chosen.items()}
    if method == "paired_pca":
        settings["sign"] = "majority of pairs, by layer"
    return settings
