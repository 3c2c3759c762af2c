"""Teacher-forced log-likelihoods, steered per row. Knows one forward over prompt and continuation; not of queues."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steergraph.vectors.engine.forward import Forward, pad_left
from steergraph.vectors.engine.hooks import SteeringHooks
from steergraph.vectors.engine.loading import LoadedModel
from steergraph.vectors.engine.plans import RowPlan
from steergraph.vectors.engine.protocol import Scores
from steergraph.vectors.engine.trail import Trail


@dataclass(frozen=True)
class ScoreRow:
    prompt: Sequence[int]
    continuation: Sequence[int]
    plan: RowPlan


def forced_logits(loaded: LoadedModel, hooks: SteeringHooks, rows: Sequence[ScoreRow]) -> list[torch.Tensor]:
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


def score_rows(loaded: LoadedModel, hooks: SteeringHooks, rows: Sequence[ScoreRow]) -> list[Scores]:
    """Scores of `rows`, in one forward."""
    return [_scores(row, logits) for row, logits in zip(rows, forced_logits(loaded, hooks, rows), strict=True)]


def _scores(row: ScoreRow, logits: torch.Tensor) -> Scores:
    targets = torch.tensor(list(row.continuation), device=logits.device)
    logprobs = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
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
    )
