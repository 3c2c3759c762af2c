"""Jobs to score: which go together, and what happens where they fail.

Knows jobs and their sizes. Knows nothing of generation or threads; `score` knows the forward.
"""

from collections import deque
from collections.abc import Callable, Sequence

from steergraph.engine.decode.decoder import Counters
from steergraph.engine.decode.jobs import Job, ScoreJob
from steergraph.engine.decode.scheduler import MAX_NEW_TOKENS
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Named
from steergraph.engine.scoring.score import ForcedSample, score_samples
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.records import Steering

MAX_KEPT_LOGITS = 2**27
"""Logits that one forward may keep, unless it has a single row."""


class Scoring:
    """One forward for several jobs."""

    def __init__(
        self,
        loaded: LoadedModel,
        hooks: SteeringHooks,
        plan: Callable[[Steering | None, Named], SteeringPlan],
        max_rows: int,
        counters: Counters,
    ) -> None:
        self._loaded, self._hooks, self._plan, self._max_rows, self._counters = loaded, hooks, plan, max_rows, counters
        self._vocabulary: int = loaded.model.get_input_embeddings().weight.shape[0]

    def take(self, queue: deque[Job]) -> list[ScoreJob]:
        """The oldest jobs to score that fit into one forward; they leave `queue`."""
        taken: list[ScoreJob] = []
        for job in [job for job in queue if isinstance(job, ScoreJob)]:
            if self._fits([*taken, job]):
                taken.append(job)
        for job in taken:
            queue.remove(job)
        return taken

    def run(self, jobs: Sequence[ScoreJob]) -> None:
        """Answer `jobs` with one forward. Where it fails, each half gets its own: one bad row, or too little memory for
        all of them, fails nobody else."""
        try:
            plans = [self._plan(job.request.steering, job.library) for job in jobs]
            rows = [ForcedSample(job.prompt, job.continuation, plan) for job, plan in zip(jobs, plans, strict=True)]
            scored, forwards = score_samples(self._loaded, self._hooks, rows)
        except Exception as error:
            if len(jobs) == 1:
                return jobs[0].fail(error)
            scored, forwards = [], 0
        if not scored:
            self.run(jobs[: len(jobs) // 2])
            return self.run(jobs[len(jobs) // 2 :])
        self._counters.batches += 1
        self._counters.forwards += forwards
        self._counters.samples += len(jobs)
        for job, scores in zip(jobs, scored, strict=True):
            job.future.set_result(scores)

    def _fits(self, jobs: Sequence[ScoreJob]) -> bool:
        # Options of one token after one prompt are one row.
        rows = len({_kind(job) for job in jobs})
        return rows == 1 or (
            rows <= self._max_rows
            and rows * max(job.width for job in jobs) <= MAX_NEW_TOKENS
            and rows * max(job.kept for job in jobs) * self._vocabulary <= MAX_KEPT_LOGITS
        )


def _kind(job: ScoreJob) -> tuple[object, ...]:
    """The same for jobs that `score_samples` runs as one row."""
    return tuple(job.prompt), tuple(job.continuation[:-1]), job.request.steering, id(job.library)
