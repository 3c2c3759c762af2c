"""The next token of each row from its logits. Knows temperature, nucleus and seeds; nothing of models or text.

Each row has its own generator, so that a row's text depends on its own seed and never on its company.
"""

import torch

from steergraph.vectors.engine.protocol import Sampling


def row_generator(seed: int) -> torch.Generator:
    """A generator on the CPU, whatever the model's device: one seed means one text everywhere."""
    return torch.Generator(device="cpu").manual_seed(seed % 2**63)


def probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Distribution [vocabulary] after temperature (above 0), top_k and top_p, in this order, in float32."""
    scaled = logits.float() / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(sampling.top_k).values[-1], -torch.inf)
    probs = scaled.softmax(dim=-1)
    if sampling.top_p < 1:
        ordered, order = probs.sort(descending=True)
        # A token stays while the mass before it is below top_p, so the most likely one always does.
        beyond = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        probs[order[beyond]] = 0.0
    return probs / probs.sum()


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from `logits` [vocabulary]; temperature 0 takes the likeliest. Raises ValueError for NaN logits."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probs = probabilities(logits.cpu(), sampling)
    if not bool(probs.isfinite().all()):
        raise ValueError("the model's logits are not numbers; the steering may be too strong for its precision")
    return int(torch.multinomial(probs, 1, generator=generator))
