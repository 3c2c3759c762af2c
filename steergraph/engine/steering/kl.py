"""What steering spent: the KL of the steered model against the unsteered one over an answer.

Knows one pass over prompt and answer for two rows, the same tokens steered and not. Knows nothing of requests.
"""

from collections.abc import Collection, Sequence

import torch

from steergraph.engine.loading.forward import Forward
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.records import SpentKL

COLUMNS = 256
"""Columns of the answer that go through at once: the logits of a long answer need not be there together."""


def kl_by_token(
    loaded: LoadedModel,
    hooks: SteeringHooks,
    prompt: Sequence[int],
    answer: Sequence[int],
    plan: SteeringPlan,
    suspended: Collection[int] = (),
) -> torch.Tensor:
    """KL(steered || unsteered) in nats, float32 [answer], of the distributions that each token of `answer` was drawn
    from. `suspended` are positions in the row's own numbering at which steering was off."""
    sequence = [*prompt, *answer[:-1]]
    by_token = []
    with loaded.lock, torch.inference_mode():
        ids = torch.tensor([sequence, sequence], device=loaded.device)
        mask, places = torch.ones_like(ids), torch.arange(len(sequence), device=loaded.device).expand(2, -1)
        forward, cache, start, first = Forward(loaded), None, 0, len(prompt) - 1
        placed = [plan.place(len(prompt)), SteeringPlan().place(len(prompt))]
        with hooks.steering(placed, loaded.device) as batch:
            while start < len(sequence):
                end = min(max(start, first) + COLUMNS, len(sequence))
                batch.at([start, start], end - start, suspended=[suspended, ()])
                keep = end - max(start, first)
                logits, cache = forward(
                    ids[:, start:end], mask[:, :end], places[:, start:end], cache=cache, use_cache=True, keep=keep
                )
                steered, plain = logits.float().log_softmax(dim=-1)
                by_token.append(
                    torch.nn.functional.kl_div(plain, steered, reduction="none", log_target=True).sum(-1).cpu()
                )
                start = end
    return torch.cat(by_token).clamp(min=0)  # rounding can leave a little less than nothing


def spent_kl(
    loaded: LoadedModel,
    hooks: SteeringHooks,
    prompt: Sequence[int],
    answer: Sequence[int],
    plan: SteeringPlan,
    suspended: Collection[int] = (),
) -> SpentKL:
    """Mean and 95th percentile of `kl_by_token`; `answer` is not empty. Raises ValueError where logits are NaN."""
    by_token = kl_by_token(loaded, hooks, prompt, answer, plan, suspended)
    if not bool(by_token.isfinite().all()):
        raise ValueError("the model's logits are not numbers; the steering may be too strong for its precision")
    return SpentKL(mean=float(by_token.mean()), p95=float(by_token.quantile(0.95)), tokens=len(answer))
