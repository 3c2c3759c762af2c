"""A batch run: which samples are still to be made, and what becomes of each: an outcome, a record, a prediction.

Knows the run's folder, candidates and pools. Knows nothing of how a pool makes samples, nor of the terminal.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from steergraph.agents.instances import prediction
from steergraph.agents.state import PATCHED
from steergraph.base.files import append_line
from steergraph.base.records import Frozen
from steergraph.evals.swebench.candidates import STATUSES, Choice, candidate_of, choose, contributions
from steergraph.evals.swebench.folder import BatchFolder
from steergraph.evals.swebench.repos import Repos
from steergraph.evals.swebench.sources import Source
from steergraph.evals.swebench.worker import Done, Unit


class Pool(Protocol):
    def results(self, units: Sequence[Unit]) -> Iterator[Done]: ...


class Plan(Frozen):
    """What a batch run is to do."""

    rows: tuple[Mapping[str, str], ...]
    presets: tuple[str, ...]
    order: tuple[str, ...]
    """Every instance that the run has ever been asked for, in the order of its predictions."""
    sources: dict[str, tuple[Source, ...]]
    """For each preset, one for each sample."""
    model: str
    """As predictions name it."""


Finished = Callable[[Mapping[str, Any], bool], None]
"""Called with each instance's record, and whether it was finished before."""
Forget = Callable[[Unit, Path], None]


def run_batch(
    folder: BatchFolder,
    plan: Plan,
    repos: Repos,
    pool: Pool,
    forget: Forget,
    finished: Finished = lambda record, before: None,
    *,
    retry_errors: bool = False,
) -> dict[str, Any]:
    """Make what is not there yet, in the order of the instances, and return the summary, which is written too.

    `forget` removes a finished sample's graph state. `retry_errors`: instances whose status is `error` are done anew.
    Call it inside `folder.locked()`.
    """
    for preset in plan.presets:
        # First, so that whoever looks finds whole lines, whatever a kill left.
        folder.rebuild_predictions(preset, plan.order)
    missing: dict[tuple[str, str], list[Unit]] = {}
    for row in plan.rows:
        for preset in plan.presets:
            instance = row["instance_id"]
            record = folder.record(preset, instance)
            if record and retry_errors and record["status"] == "error":
                folder.forget(preset, instance)
                record = None
            if record:
                finished(record, True)
                continue
            missing[preset, instance] = []
            for unit in _units(row, preset, plan.sources[preset], repos):
                if folder.outcome(preset, instance, unit.sample) is None:
                    missing[preset, instance].append(unit)
                else:  # perhaps the kill came before its state was removed
                    forget(unit, folder.sample(preset, instance, unit.sample))
            if not missing[preset, instance]:
                finished(_finish(folder, plan, preset, instance), False)
    for done in pool.results([unit for units in missing.values() for unit in units]):
        unit = done.unit
        at = folder.sample(unit.preset, unit.instance_id, unit.sample)
        folder.keep_outcome(unit.preset, unit.instance_id, unit.sample, done.outcome)
        for event in done.trace:
            append_line(at / "trace.jsonl", event)
        forget(unit, at)
        waiting = missing[unit.preset, unit.instance_id]
        waiting.remove(unit)
        if not waiting:
            finished(_finish(folder, plan, unit.preset, unit.instance_id), False)
    summary = {p: summarise(folder.rebuild_predictions(p, plan.order)) for p in plan.presets}
    folder.keep_summary(summary)
    return summary


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts over one preset's records."""
    statuses = [record["status"] for record in records]
    return {
        "instances": len(records),
        "patched": sum(status in PATCHED for status in statuses),
        "statuses": {status: statuses.count(status) for status in STATUSES if status in statuses},
        "tokens": sum(record["tokens"] for record in records),
        "seconds": round(sum(record["seconds"] for record in records), 3),
        "truncated": sum(record["truncated"] for record in records),
        "sources": contributions(records),
    }


def _finish(folder: BatchFolder, plan: Plan, preset: str, instance: str) -> dict[str, Any]:
    """Choose among an instance's samples, and keep its record and prediction."""
    outcomes = [folder.outcome(preset, instance, n) for n in range(len(plan.sources[preset]))]
    candidates = [candidate_of(outcome) for outcome in outcomes if outcome is not None]
    choice = choose(candidates)
    record = _record(preset, instance, plan.model, choice)
    folder.keep_record(record)
    return record


def _record(preset: str, instance: str, model: str, choice: Choice) -> dict[str, Any]:
    won = next((c for c in choice.candidates if c.sample == choice.chosen), None)
    row = prediction(instance, won.patch if won else None, model, preset)
    errors = [c.error for c in choice.candidates if c.error]
    return {
        "instance_id": instance,
        "preset": preset,
        "model_name_or_path": row["model_name_or_path"],
        "status": choice.status,
        "patch": row["model_patch"],
        "chosen": choice.chosen,
        "why": choice.why,
        "error": errors[0] if choice.status == "error" and errors else None,
        "candidates": [candidate.model_dump(mode="json") for candidate in choice.candidates],
        "tokens": sum(c.tokens for c in choice.candidates),
        "seconds": round(sum(c.seconds for c in choice.candidates), 3),
        "truncated": sum(c.truncated for c in choice.candidates),
    }


def _units(row: Mapping[str, str], preset: str, sources: Sequence[Source], repos: Repos) -> Iterator[Unit]:
    for sample, source in enumerate(sources):
        yield Unit(row=dict(row), preset=preset, sample=sample, source=source, repo=repos.of(row["repo"]))
