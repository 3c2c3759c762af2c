"""A batch run with many instances in flight on one engine, against one instance at a time on the same engine.

    python benchmarks/batch_throughput.py [--quick] [--jobs 8] [--device cuda] [--model random --layers 12 --hidden 512]
    python benchmarks/batch_throughput.py --dataset FILE --repos DIR --instances 0:8

Without --dataset: the ten issues of examples/pantry.bundle, preset auto (four specialists, retrieval, checks, one
repair at most). Runs take turns in one process, after an unmeasured one that fills the caches; each has a new folder.
`--model random` is Qwen3's shape with random weights, whose every answer runs to its limit.
The seconds are a whole run's: routing, retrieval, generation, checking, checkpoints and files.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import yaml
from random_model import interleaved, machine, parser, random_model, ratio

from steergraph.agents.policy import Policy
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine
from steergraph.evals.swebench.batch import Plan, run_batch
from steergraph.evals.swebench.config import BatchConfig
from steergraph.evals.swebench.datasets import load_dataset, row_hash
from steergraph.evals.swebench.folder import BatchFolder
from steergraph.evals.swebench.local_pool import LocalPool
from steergraph.evals.swebench.repos import Repos
from steergraph.evals.swebench.selection import select
from steergraph.evals.swebench.sources import plan_sources
from steergraph.evals.swebench.worker import Worker
from steergraph.repo.repository import Repository

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def pantry() -> list[dict[str, str]]:
    sha = Repository.open(str(EXAMPLES / "pantry.bundle")).resolve(None)
    names = [issue["name"] for issue in yaml.safe_load((EXAMPLES / "issues.yaml").read_text())["issues"]]
    return [
        {
            "instance_id": f"steergraph__pantry-{name}",
            "repo": "steergraph/pantry",
            "base_commit": sha,
            "version": "1.0",
            "problem_statement": (EXAMPLES / "issues" / f"{name}.md").read_text(),
        }
        for name in names
    ]


def one_run(worker: Worker, rows: list[dict[str, str]], repos: Repos, preset: str, jobs: int) -> int:
    """One whole run. Returns the completion tokens that were spoken in it."""
    with tempfile.TemporaryDirectory(prefix="steergraph-batch-") as runs:
        folder = BatchFolder.open(runs, "r")
        folder.begin({"presets": [preset], "instances": {r["instance_id"]: row_hash(r) for r in rows}, "command": ""})
        plan = Plan(
            rows=tuple(rows),
            presets=(preset,),
            order=tuple(r["instance_id"] for r in rows),
            sources={preset: plan_sources(1, Policy.load().axes(preset).steering, [])},
            model=worker.engine.info.name,
        )
        pool = LocalPool(worker, jobs, lambda u: folder.sample(u.preset, u.instance_id, u.sample))
        return int(run_batch(folder, plan, repos, pool, worker.forget)[preset]["tokens"])


def main(arguments: argparse.Namespace) -> None:
    rows = pantry()
    if arguments.dataset:
        rows = [dict(row) for row in select(load_dataset(arguments.dataset).rows, arguments.instances)]
    repos = Repos(arguments.repos or str(EXAMPLES))
    if arguments.model == "random":
        loaded = random_model(arguments.layers, arguments.hidden, arguments.device)
    else:
        loaded = load_model(arguments.model, device=arguments.device)
    tokens: dict[str, int] = {}
    with LocalEngine(loaded, max_batch=arguments.jobs) as engine:
        worker = Worker(BatchConfig(uid="benchmark", max_repairs=1), engine)

        def run(name: str, jobs: int) -> None:
            tokens[name] = one_run(worker, rows, repos, arguments.preset, jobs)

        run("warm", arguments.jobs)
        names = {"alone": 1, "together": arguments.jobs}
        rounds = 2 if arguments.quick else arguments.rounds
        taken = interleaved(
            {name: partial(run, name, jobs) for name, jobs in names.items()}, rounds, cpu_time=arguments.cpu_time
        )
    print(machine(arguments.device))
    print(f"{len(rows)} instances, {engine.info.name}, preset {arguments.preset}, {rounds} rounds")
    for name, jobs in names.items():
        median = statistics.median(taken[name])
        rates = f"{60 * len(rows) / median:.1f} instances a minute, {tokens[name] / median:.0f} tokens a second"
        print(f"{jobs:>3} in flight: {median:7.2f} s, {rates}")
    print(f"throughput, {arguments.jobs} in flight over 1: {ratio(taken['alone'], taken['together'])}")


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--jobs", type=int, default=8)
    made.add_argument("--model", default="pocket")
    made.add_argument("--preset", default="auto")
    made.add_argument("--dataset")
    made.add_argument("--instances", nargs="+", default=[])
    made.add_argument("--repos")
    main(made.parse_args())
