"""From a contrast set to a steering vector: the mean difference at every layer, and how well it separates unseen texts.

Knows contrast sets and how to listen to a model. Knows nothing of steering or of where vectors are kept.

The texts go through the same chat template as a generation, with the generation prompt, and are read at the last prompt
token: the place that produces the first generated token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from steergraph.configs import InputError
from steergraph.vectors.contrast import ContrastSet
from steergraph.vectors.engine.capture import capture
from steergraph.vectors.engine.chat import Chat
from steergraph.vectors.engine.loading import LoadedModel
from steergraph.vectors.engine.protocol import Message
from steergraph.vectors.library import SteeringVector

METHOD = "mean_difference"
READ_POSITION = "last_prompt_token"
CHUNK = 16
"""Texts between two reports of progress. Fixed, so that the same vector comes out whatever the batch size is."""
SILENT = 1e-5
"""A difference of less than this part of the residual is rounding, and such a layer gets no direction. In a first block
with a short convolution or window, the last prompt token sees only the template, which all texts share."""

Report = Callable[[int], None]
"""Called after each chunk with how many texts it had."""


@dataclass(frozen=True)
class Reading:
    """What a model made of one side of a contrast set."""

    last: torch.Tensor
    """[layers, texts, hidden], float32: the residual at each text's last prompt token."""
    medians: torch.Tensor
    """[layers, chunks]: the residual's median length over the tokens of each chunk, without first tokens."""


def extract(
    loaded: LoadedModel,
    contrast: ContrastSet,
    *,
    name: str | None = None,
    batch_size: int = 8,
    report: Report = lambda count: None,
    neutral: Reading | None = None,
) -> SteeringVector:
    """The vector of `contrast` on the model, called `name` (the set's own name by default).

    `neutral` is a reading of the set's neutral side on the same model, where one is at hand. Raises InputError where a
    text does not fit the model's window, the two sides do not differ, or activations are not finite.
    """
    where = f"contrast set {contrast.name!r}"
    neutral = neutral or read_side(loaded, contrast.neutral_system, contrast.neutrals, where, batch_size, report)
    positive = read_side(loaded, contrast.system, contrast.positives, where, batch_size, report)
    held_positive, held_neutral = contrast.held_out
    directions = mean_difference(positive.last, held_positive, neutral.last, held_neutral)
    if not bool(torch.isfinite(directions).all()):
        raise InputError(f"{where}: the activations of {loaded.info.name} overflow; load it in float32 or bfloat16")
    norms = directions.norm(dim=-1)
    medians = torch.cat([positive.medians, neutral.medians], dim=1).quantile(0.5, dim=1)
    layers = [layer for layer in range(loaded.info.n_layers) if norms[layer] > SILENT * medians[layer]]
    if not layers:
        raise InputError(f"{where}: {loaded.info.name} does not tell its two sides apart at any layer")
    scores = {
        layer: auroc(positive.last[layer, list(held_positive)], neutral.last[layer, list(held_neutral)], direction)
        for layer, direction in enumerate(directions)
        if layer in layers
    }
    return SteeringVector(
        name=name or contrast.name,
        directions={k: directions[k].float().contiguous() for k in layers},
        model=loaded.info.name,
        revision=loaded.info.revision,
        hidden_size=loaded.info.hidden_size,
        method=METHOD,
        contrast_hash=contrast.hash,
        read_position=READ_POSITION,
        raw_norms={k: float(norms[k]) for k in layers},
        median_residual_norms={k: float(medians[k]) for k in layers},
        metadata={
            "contrast": contrast.name,
            "domain": contrast.domain,
            "language": contrast.language,
            "architecture": loaded.info.architecture,
            "n_layers": loaded.info.n_layers,
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
            "chat_template": loaded.info.kind == "instruct",
            "system_prompt": contrast.system is not None,
            "used": {
                "positives": len(contrast.positives) - len(held_positive),
                "neutrals": len(contrast.neutrals) - len(held_neutral),
            },
            "held_out": {"positives": len(held_positive), "neutrals": len(held_neutral)},
            "held_out_auroc": {str(k): round(scores[k], 4) for k in layers},
        },
    )


def read_side(
    loaded: LoadedModel,
    system: str | None,
    texts: Sequence[str],
    where: str = "texts",
    batch_size: int = 8,
    report: Report = lambda count: None,
) -> Reading:
    """Run `texts` as user messages, under `system` where it is given. `report` gets the size of each chunk read."""
    chat = Chat(loaded.tokenizer)
    opening = (Message(role="system", content=system),) if system is not None else ()
    sequences = [chat.prompt((*opening, Message(role="user", content=text))) for text in texts]
    lasts, medians = [], []
    for start in range(0, len(sequences), CHUNK):
        chunk = sequences[start : start + CHUNK]
        try:
            captured = capture(loaded, chunk, batch_size=min(batch_size, CHUNK))
        except InputError as error:
            raise InputError(f"{where}: from text {start} on: {error}") from error
        lasts.append(captured.last)
        medians.append(captured.median_norm)
        report(len(chunk))
    return Reading(last=torch.cat(lasts, dim=1), medians=torch.stack(medians, dim=1))


def mean_difference(
    positive: torch.Tensor, held_positive: Sequence[int], neutral: torch.Tensor, held_neutral: Sequence[int]
) -> torch.Tensor:
    """[layers, hidden], float64: mean of the positives minus mean of the neutrals ([layers, texts, hidden] each),
    without those held out."""
    means = []
    for side, held in ((positive, set(held_positive)), (neutral, set(held_neutral))):
        used = [index for index in range(side.shape[1]) if index not in held]
        # float64: the two means are nearly equal where the residual has a few huge entries.
        means.append(side[:, used].double().mean(dim=1))
    return means[0] - means[1]


def auroc(positive: torch.Tensor, neutral: torch.Tensor, direction: torch.Tensor) -> float:
    """How often a positive ([n, hidden]) lies further along `direction` than a neutral ([m, hidden]), over all n*m
    pairs; ties count half. 0.5 is chance, 1 a clean separation."""
    unit = direction.double() / direction.double().norm()
    high, low = positive.double() @ unit, neutral.double() @ unit
    wins = (high[:, None] > low[None, :]).double() + 0.5 * (high[:, None] == low[None, :]).double()
    return float(wins.mean())
