"""The next token of each row from its logits. Knows temperature, nucleus, transformers' logit processors and seeds;
nothing of models or text.

Each row has its own generator, so that a row's text depends on its own seed and never on its company.
"""

from collections.abc import Sequence
from typing import Any

import torch

from steergraph.engine.protocol import Sampling

_FEW = 4096
"""Tokens in which a nucleus is looked for first; a vocabulary that is no larger is sorted whole."""


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU, whatever the model's device: one seed means one text everywhere."""
    return torch.Generator(device="cpu").manual_seed(seed % 2**63)


class Penalties:
    """What changes a row's logits because of the tokens before: transformers' processors, in the order of its
    `generate`. Falsy where the sampling asks for none."""

    def __init__(self, sampling: Sampling, prompt_tokens: int, eos: frozenset[int]) -> None:
        self._made: list[Any] = []
        if sampling.repetition_penalty != 1:
            self._add("RepetitionPenaltyLogitsProcessor", penalty=float(sampling.repetition_penalty))
        if sampling.no_repeat_ngram_size:
            self._add("NoRepeatNGramLogitsProcessor", sampling.no_repeat_ngram_size)
        if sampling.min_new_tokens and eos:
            self._add("MinNewTokensLengthLogitsProcessor", prompt_tokens, sampling.min_new_tokens, sorted(eos))

    def _add(self, name: str, *arguments: Any, **options: Any) -> None:
        import transformers

        self._made.append(getattr(transformers, name)(*arguments, **options))

    def __bool__(self) -> bool:
        return bool(self._made)

    def __call__(self, tokens: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """`logits` [vocabulary] after `tokens` (prompt and answer), float32 on the CPU."""
        ids = torch.tensor([list(tokens)])
        scores = logits.float().cpu()[None]
        for processor in self._made:
            scores = processor(ids, scores)
        changed: torch.Tensor = scores[0]
        return changed


def _warped(probs: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """`probs` after those of transformers' warpers that the sampling asks for."""
    import transformers

    asked = {
        "MinPLogitsWarper": sampling.min_p,
        "TypicalLogitsWarper": sampling.typical_p if sampling.typical_p < 1 else 0,
        "EpsilonLogitsWarper": sampling.epsilon_cutoff,
        "EtaLogitsWarper": sampling.eta_cutoff,
    }
    for name, value in asked.items():
        if value:
            # They take None for the tokens before, which they don't look at.
            probs = getattr(transformers, name)(value)(None, probs.log()[None])[0].softmax(dim=-1)
    return probs


def _nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """`probs` without what lies beyond the mass of `top_p`. Sorting a whole vocabulary costs more than a layer does, so
    that the likeliest are looked at first."""
    ordered, order = probs.topk(_FEW) if len(probs) > _FEW else probs.sort(descending=True)
    if len(ordered) < len(probs) and float(ordered.sum()) < top_p:
        ordered, order = probs.sort(descending=True)
    # A token stays while the mass before it is below top_p, so the most likely one always does.
    stays = order[ordered.cumsum(dim=-1) - ordered < top_p]
    return torch.zeros_like(probs).index_copy(0, stays, probs[stays])


def probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Distribution [vocabulary] after temperature (above 0), top_k, top_p and the other cuts, in this order, in
    float32."""
    scaled = logits.float() / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(sampling.top_k).values[-1], -torch.inf)
    probs = scaled.softmax(dim=-1)
    if sampling.top_p < 1:
        probs = _nucleus(probs, sampling.top_p)
    return _warped(probs / probs.sum(), sampling)


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from `logits` [vocabulary]; temperature 0 takes the likeliest. Raises ValueError for NaN logits."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probs = probabilities(logits.cpu(), sampling)
    if not bool(probs.isfinite().all()):
        raise ValueError("the model's logits are not numbers; the steering may be too strong for its precision")
    return int(torch.multinomial(probs, 1, generator=generator))
