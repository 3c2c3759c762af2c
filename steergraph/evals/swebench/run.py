"""A batch run as it was asked for: load, select, make what is missing, a line for each instance, a table at the end.

Knows files and lines. How a batch goes is `batch`'s business, how a sample is made `worker`'s.
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import transformers

from steergraph.agents.checkpoints import checked_url, open_checkpoints, shown
from steergraph.agents.driving import closing_on_interrupt, make_engine, public_command
from steergraph.agents.policy import Policy
from steergraph.agents.specialists import Roster
from steergraph.base.errors import InputError
from steergraph.base.text import printable
from steergraph.engine.protocol import ModelInfo
from steergraph.evals.swebench.batch import Forget, Plan, run_batch
from steergraph.evals.swebench.config import BatchConfig, BatchRequest
from steergraph.evals.swebench.datasets import load_dataset, row_hash
from steergraph.evals.swebench.folder import BatchFolder
from steergraph.evals.swebench.local_pool import LocalPool
from steergraph.evals.swebench.repos import Repos
from steergraph.evals.swebench.selection import select
from steergraph.evals.swebench.sources import plan_sources
from steergraph.evals.swebench.worker import Worker, forget
from steergraph.repo.git import redact
from steergraph.sandbox.run import Sandbox


def run_swebench(
    batch: BatchRequest, config: BatchConfig, command: str, *, state: str | None = None, as_json: bool = False
) -> int:
    """Load, select, go on where it stopped, and say how it went. 0 once every instance has its row.

    `state` is the URL of a database for graph state; `as_json` prints the summary as JSON and no progress.
    """
    if state:
        with open_checkpoints(checked_url(state)):  # a server that does not answer is said before a model is loaded
            pass
    dataset = load_dataset(batch.dataset, batch.split)
    rows = select(dataset.rows, batch.instances or ())
    repos = Repos(batch.repos)
    policy, roster = Policy.load(config.policy), Roster.load(config.roster)
    presets = tuple(dict.fromkeys(name.strip() for name in batch.presets.split(",") if name.strip()))
    if not presets:
        raise InputError("--presets names none")
    if odd := [preset for preset in presets if not re.fullmatch(r"\w[\w.-]*", preset)]:
        raise InputError(f"--presets: {odd[0]!r} can't name a file")
    sources = {
        preset: plan_sources(
            config.samples, policy.axes(preset).steering, _domains(roster), config.seed, config.temperature
        )
        for preset in presets
    }
    if config.test:
        Sandbox.detect(unsafe=config.unsafe_tests)

    def say(line: str) -> None:
        if not as_json:  # names and errors come from data
            print(printable(line, "?"), flush=True)

    folder = BatchFolder.open(batch.runs, batch.run_id or time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
    with folder.locked():
        for line in (*dataset.notes, *_without_repository(rows, repos)):
            say(f"note     {line}")
        folder.sweep()
        hashes = {row["instance_id"]: row_hash(row) for row in rows}
        begun = folder.begin(
            {
                "dataset": dataset.name,
                "repos": repos.shown,
                "state": shown(state) if state else "sqlite",
                "presets": list(presets),
                "instances": hashes,
                "command": public_command(command, state),
                **config.record("bench"),
                "model": redact(config.model),
            }
        )
        told = {"uid": begun["uid"], "command": begun["commands"][-1], "max_batch": min(batch.jobs, 64)}
        config = config.model_copy(update=told)
        show = _Progress(len(rows) * len(presets), say)
        try:
            with _pool(batch, config, folder, state) as (pool, info, forget):
                folder.keep_model(info.model_dump(mode="json"))
                plan = Plan(
                    rows=tuple(rows),
                    presets=presets,
                    order=tuple(r["instance_id"] for r in dataset.rows if r["instance_id"] in begun["instances"]),
                    sources=sources,
                    model=info.name,
                )
                size = f"{len(rows)} instances x {len(presets)} presets"
                say(f"run      {folder.path}  {info.name} ({info.architecture})  {size}")
                summary = run_batch(folder, plan, repos, pool, forget, show, retry_errors=batch.retry_errors)
        except KeyboardInterrupt:
            print(f"stopped; the same command goes on with it (--run-id {folder.path.name})", file=sys.stderr)
            raise
    if as_json:
        print(json.dumps(summary, indent=2))
    for preset, counts in summary.items():
        by_status = ", ".join(f"{n} {status}" for status, n in counts["statuses"].items())
        patched = f"{counts['patched']} of {counts['instances']} patched"
        say(f"{preset:<13} {patched}  ({by_status})  {counts['tokens']} tokens")
        say(f"{'':<13} {folder.path / 'predictions' / preset}.jsonl")
    return 0


@contextmanager
def _pool(
    batch: BatchRequest, config: BatchConfig, folder: BatchFolder, state: str | None
) -> Iterator[tuple[Any, ModelInfo, Forget]]:
    """What makes the samples, the model it makes them with, and how a finished sample's state is removed."""

    transformers.logging.set_verbosity_error()
    with ExitStack() as stack:
        if batch.ray:
            from steergraph.evals.swebench.ray_pool import RayPool

            saver = stack.enter_context(open_checkpoints(state)) if state else None
            over = RayPool(batch.ray, config, folder.path, state=state, jobs=batch.jobs, replicas=batch.replicas)
            stack.enter_context(over)
            yield over, over.info, lambda unit, at: forget(saver, config.uid, unit, at)
            return
        engine = make_engine(config, config.max_batch)
        stack.callback(engine.close)
        stack.enter_context(closing_on_interrupt(engine))
        worker = Worker(config, engine, state)
        stack.callback(worker.close)
        pool = LocalPool(worker, batch.jobs, lambda u: folder.sample(u.preset, u.instance_id, u.sample))
        yield pool, engine.info, worker.forget


class _Progress:
    """A line for each instance as it ends."""

    def __init__(self, of: int, say: Callable[[str], None]) -> None:
        self._of, self._say = of, say
        self._done = 0

    def __call__(self, record: Mapping[str, Any], before: bool) -> None:
        self._done += 1
        if before:
            return
        width = len(str(self._of))
        why = record["error"] or (record["why"] if len(record["candidates"]) > 1 else None)
        self._say(
            f"[{self._done:>{width}}/{self._of}] {record['preset']:<13} {record['instance_id']:<32} "
            f"{record['status']:<18} {record['tokens']:>6} tokens {record['seconds']:>7.1f} s  {why or ''}".rstrip()
        )


def _domains(roster: Roster) -> list[str]:
    """The domains that speak on an issue: their vectors are lent to the others for candidates by vector."""
    plan = roster.plans["issue_with_retrieval"]
    return list(dict.fromkeys(s.domain for s in roster.specialists if s.name in plan))


def _without_repository(rows: Sequence[Mapping[str, str]], repos: Repos) -> list[str]:
    lacking = Counter(row["repo"] for row in rows if repos.of(row["repo"]) is None)
    return [f"no repository of {repo or '?'} in {repos.shown}: {n} rows will be empty" for repo, n in lacking.items()]
