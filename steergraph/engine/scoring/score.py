"""Teacher-forced log-likelihoods, steered per row.

Knows forwards over prompts and continuations, and what several rows have in common. Knows nothing of queues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steergraph.engine.cache.prefix_cache import Prefix, prefix_of
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Scores
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.receipts import Trail


@dataclass(frozen=True)
class ForcedSample:
    prompt: Sequence[int]
    continuation: Sequence[int]
    plan: SteeringPlan


def forced_logits(loaded: LoadedModel, hooks: SteeringHooks, rows: Sequence[ForcedSample]) -> list[torch.Tensor]:
    """For each row the float32 logits [continuation, vocabulary] from which its continuation's tokens are predicted."""
    # The last token predicts nothing that is asked for, so it is not run; the prompt's last token predicts the first.
    sequences = [[*row.prompt, *row.continuation[:-1]] for row in rows]
    longest = max(len(row.continuation) for row in rows)
    with loaded.lock, torch.inference_mode():
        padded = pad_left(sequences, loaded.pad_id, loaded.device)
        width = padded.ids.shape[1]
        plans = [row.plan.place(len(row.prompt)) for row in rows]
        with hooks.steering(plans, loaded.device) as batch:
            batch.at([len(sequence) - width for sequence in sequences], width)
            logits, _ = Forward(loaded)(padded.ids, padded.mask, padded.positions, keep=longest)
        return [logits[index, -len(row.continuation) :].float() for index, row in enumerate(rows)]


def score_samples(loaded: LoadedModel, hooks: SteeringHooks, rows: Sequence[ForcedSample]) -> tuple[list[Scores], int]:
    """(scores of `rows`, how many forwards they took: one, or two where rows share a prompt).

    Rows that are the same up to their last token, as single-token options of one question are, run once. Where some
    prompts are the same and steered alike up to their last token, the first forward runs each of them once and the
    second what follows, over copies of their states.
    """
    kinds = [(tuple(row.prompt), tuple(row.continuation[:-1]), row.plan.applied) for row in rows]
    distinct = dict(zip(kinds, rows, strict=True))
    order = {kind: number for number, kind in enumerate(distinct)}
    once = list(distinct.values())
    prompts = [prefix_of(row.prompt, row.plan) for row in once]
    logits, forwards = None, 1
    if len(set(prompts)) < len(prompts) and all(prompt.tokens for prompt in prompts):
        logits, forwards = _over_shared_prompts(loaded, hooks, once, prompts), 2
    if logits is None:
        logits, forwards = forced_logits(loaded, hooks, once), 1
    return [_scores(row, logits[order[kind]]) for row, kind in zip(rows, kinds, strict=True)], forwards


def _over_shared_prompts(
    loaded: LoadedModel, hooks: SteeringHooks, rows: Sequence[ForcedSample], prompts: Sequence[Prefix]
) -> list[torch.Tensor] | None:
    """As `forced_logits`; None where the model's cache can't repeat rows."""
    owners = dict(zip(prompts, rows, strict=True))
    shared = list(owners)
    rest = [[row.prompt[-1], *row.continuation[:-1]] for row in rows]
    width, longest = max(len(prompt.tokens) for prompt in shared), max(map(len, rest))
    forward = Forward(loaded)
    with loaded.lock, torch.inference_mode():
        padded = pad_left([prompt.tokens for prompt in shared], loaded.pad_id, loaded.device)
        plans = [owners[prompt].plan.place(len(owners[prompt].prompt)) for prompt in shared]
        with hooks.steering(plans, loaded.device) as batch:
            batch.at([len(prompt.tokens) - width for prompt in shared], width)
            _, cache = forward(padded.ids, padded.mask, padded.positions, use_cache=True)
        if not can_repeat(cache):
            return None
        index = torch.tensor([shared.index(prompt) for prompt in prompts], device=loaded.device)
        cache.reorder_cache(index)
        # Padded on the right: what comes after a row's end changes nothing before it, in a convolution neither.
        ids = torch.tensor([[*one, *[loaded.pad_id] * (longest - len(one))] for one in rest], device=loaded.device)
        starts = [len(prompt.tokens) for prompt in prompts]
        places = torch.tensor(starts, device=loaded.device)[:, None] + torch.arange(longest, device=loaded.device)
        mask = torch.cat([padded.mask[index], torch.ones_like(ids)], dim=1)
        plans = [row.plan.place(len(row.prompt)) for row in rows]
        with hooks.steering(plans, loaded.device) as batch:
            batch.at(starts, longest)
            logits, _ = forward(ids, mask, places, cache=cache, use_cache=True, keep=longest)
        return [logits[number, : len(one)].float() for number, one in enumerate(rest)]


def can_repeat(cache: Any) -> bool:
    """Whether a cache's rows can be chosen, one several times."""
    layers = getattr(cache, "layers", ())
    return hasattr(cache, "reorder_cache") and bool(layers) and all(hasattr(one, "reorder_cache") for one in layers)


def _scores(row: ForcedSample, logits: torch.Tensor) -> Scores:
    targets = torch.tensor(list(row.continuation), device=logits.device)
    known = logits.log_softmax(dim=-1)
    logprobs = known.gather(1, targets[:, None])[:, 0]
    trail = Trail(row.plan, len(row.prompt))
    trail.passed(0, len(row.prompt))
    trail.produced()
    for position in range(len(row.prompt), len(row.prompt) + len(row.continuation) - 1):
        trail.passed(position, position + 1)
        trail.produced()
    return Scores(
        logprobs=tuple(logprobs.tolist()),
        token_ids=tuple(row.continuation),
        receipt=trail.receipt() if row.plan.applied else None,
        likeliest=tuple(known.amax(dim=-1).tolist()),
    )
