"""The retrieval bench: load, select, measure what is missing over processes, print the tables.

Knows files and lines. What is measured of an instance is `arms`' business. Each instance is one
line of rankings.jsonl, written as soon as it is done: a kill loses no more than what was under way.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from steergraph.agents.instances import read_instances
from steergraph.agents.rerank import load_reranker
from steergraph.base.errors import InputError
from steergraph.base.files import append_line, held, make_folder, read_lines, write_whole
from steergraph.base.text import harmless
from steergraph.evals.retrieval.arms import Unit, measure, settings_of
from steergraph.evals.retrieval.gold import gold_patches
from steergraph.evals.retrieval.measure import counter
from steergraph.evals.retrieval.table import tables
from steergraph.evals.retrieval.weights import fit
from steergraph.evals.swebench.repos import Repos
from steergraph.evals.swebench.selection import select
from steergraph.repo.repository import Repository
from steergraph.retrieval import Ranker

_RANKINGS, _TABLE = "rankings.jsonl", "table.md"


def run_retrieval(
    dataset: Sequence[str],
    *,
    repos: str | None,
    instances: Sequence[str],
    jobs: int,
    out: str | None,
    tokenizer: str | None,
    ranker: Ranker,
    reranker: str | None,
    fit_weights: bool,
) -> int:
    """0 once every instance is measured or known not to be measurable; 1 where none could be."""
    if fit_weights and ranker != "fields":
        raise InputError(f"--fit: {ranker} has no weights to fit: leave --ranker out")
    counter(tokenizer)  # what can't be read is said now, and not of every instance
    if reranker is not None:
        load_reranker(reranker)
    units = [
        unit.model_copy(update={"tokenizer": tokenizer, "ranker": ranker, "reranker": reranker})
        for unit in _units(dataset, Repos(repos), instances)
    ]
    if not units:
        raise InputError(f"--repos {repos}: it has none of the repositories of these instances")
    if out is None:
        return _report(list(_progress(units, jobs)), None, fit_weights)
    folder = make_folder(out)
    with held(folder / "lock", f"{folder}: another process is working there"):
        done = _done(folder / _RANKINGS, units)
        for record in _progress([unit for unit in units if unit.instance_id not in done], jobs, len(done)):
            done[record["instance_id"]] = record
            append_line(folder / _RANKINGS, record | {"settings": settings_of(units[0])})
        return _report([done[u.instance_id] for u in units], folder, fit_weights)


def _units(dataset: Sequence[str], repos: Repos, instances: Sequence[str]) -> list[Unit]:
    """What is to be measured, by repository. Instances whose repository is not at hand are left out; that is said."""
    rows: dict[str, Mapping[str, str]] = {}
    patches: dict[str, str] = {}
    for source in dataset:
        for read in read_instances(source):
            rows.setdefault(read["instance_id"], read)
        patches = gold_patches(source) | patches
    units: list[Unit] = []
    missing: list[Mapping[str, str]] = []
    chosen = select(list(rows.values()), instances)
    for row in sorted(chosen, key=lambda one: (one["repo"], one["instance_id"])):
        place = repos.of(row["repo"])
        if place is None:
            missing.append(row)
            continue
        units.append(
            Unit(
                instance_id=row["instance_id"],
                repo=row["repo"],
                base_commit=row["base_commit"],
                problem=row["problem_statement"],
                patch=patches.get(row["instance_id"], ""),
                source=place,
            )
        )
    absent = sorted({row["repo"] for row in missing})
    if units and absent:
        _say(f"not at hand, left out: {', '.join(absent)} ({len(missing)} instances)")
    return units


def _progress(units: Sequence[Unit], jobs: int, before: int = 0) -> Iterator[dict[str, Any]]:
    """The record of each of `units` as it is done, a line of progress for each."""
    started = time.monotonic()
    for at, record in enumerate(_measured(units, jobs), 1):
        left = (time.monotonic() - started) / at * (len(units) - at)
        said = record.get("error") or f"{record['seconds']:.1f} s"
        _say(f"{before + at}/{before + len(units)}  {record['instance_id']}  {said}  ({left:.0f} s left)")
        yield record


def _measured(units: Sequence[Unit], jobs: int) -> Iterator[dict[str, Any]]:
    if not units:
        return
    for source in dict.fromkeys(unit.source for unit in units):
        try:
            Repository.open(source).close()  # a mirror is made once, and not by every process at the same time
        except InputError:
            continue  # each of its instances says so
    if jobs == 1 or len(units) == 1:
        yield from map(measure, units)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(units)), mp_context=context) as pool:
        under_way: list[Future[dict[str, Any]]] = [pool.submit(measure, unit) for unit in units]
        try:
            for future in as_completed(under_way):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "a process of the bench was killed (out of memory?): with --out, run it again to go on; fewer --jobs "
                "take less"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _done(path: Path, units: Sequence[Unit]) -> dict[str, dict[str, Any]]:
    """What was measured before. A line that a kill cut short counts as not there.

    Raises InputError where another version, other weights or another tokenizer measured it.
    """
    if not path.exists():
        return {}
    wanted = {unit.instance_id: unit for unit in units}
    found = {}
    for _, record in read_lines(path, errors="replace"):
        if isinstance(record, str) or not {"instance_id", "settings", "base_commit"} <= record.keys():
            continue
        name, settings = record["instance_id"], record["settings"]
        if settings != settings_of(units[0]):
            raise InputError(f"{path}: measured with other settings or another version: name another --out")
        if name in wanted and record["base_commit"] == wanted[name].base_commit and "error" not in record:
            found[name] = record
    return found


def _report(records: Sequence[dict[str, Any]], folder: Path | None, fit_weights: bool) -> int:
    text = tables(records)
    print(text)
    measured = [record for record in records if "error" not in record]
    if fit_weights and measured:
        print("weights:", json.dumps({name: round(value, 2) for name, value in fit(measured).items()}))
    if folder is not None:
        write_whole(folder / _TABLE, text)
        _say(f"rankings: {folder / _RANKINGS}\ntables: {folder / _TABLE}")
    return 0 if any(record["gold"] for record in measured) else 1


def _say(line: str) -> None:
    print(harmless(line), file=sys.stderr, flush=True)
