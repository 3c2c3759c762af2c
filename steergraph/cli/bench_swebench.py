"""`steergraph bench swebench`: the command line of a batch run. How it goes is `run`'s business."""

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Register on the `add_subparsers()` object of `steergraph bench`."""
    from steergraph.cli.options import add_flags
    from steergraph.evals.swebench.config import BatchConfig

    p = commands.add_parser("swebench", help="predictions for many instances, resumable, for the official harness")
    p.add_argument("--dataset", required=True, metavar="FILE|NAME", help="parquet, JSON, JSONL, or a name on the hub")
    p.add_argument("--split", default="test", help="of a dataset on the hub (default: test)")
    p.add_argument(
        "--instances",
        nargs="+",
        default=[],
        metavar="WHICH",
        help="ids with commas, @FILE, a slice 0:20, /REGEX/, balanced:20; several narrow it down, left to right",
    )
    p.add_argument("--repos", metavar="DIR|URL", help="clones and bundles, or a URL with {repo} (default: GitHub)")
    p.add_argument("--presets", default="auto", metavar="A,B", help="auto, baseline, static, dynamic, rag_*")
    add_flags(p, BatchConfig, "bench")
    p.add_argument("--jobs", type=_positive_count, default=8, metavar="N", help="samples in flight (default: 8)")
    p.add_argument("--run-id", metavar="ID", help="the run's name; the same one goes on with it (default: the time)")
    p.add_argument("--runs", default="runs", metavar="DIR", help="where runs are kept (default: runs)")
    p.add_argument("--retry-errors", action="store_true", help="do those anew that ended with an error")
    p.add_argument("--state", metavar="URL", help="graph state in Postgres (or STEERGRAPH_STATE); default: SQLite")
    p.add_argument("--ray", metavar="ADDRESS|local", help="over a Ray cluster, a replica of the model in each actor")
    p.add_argument("--replicas", type=_positive_count, metavar="N", help="with --ray (default: one a GPU or node)")
    p.add_argument("--json", action="store_true", help="print the summary as JSON and no progress")
    p.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from steergraph.cli.options import config_of
    from steergraph.evals.swebench.config import BatchConfig

    config = config_of(arguments, BatchConfig, "bench", max_batch=min(arguments.jobs, 64)).anywhere()
    from steergraph.evals.swebench.run import run_swebench

    return run_swebench(arguments, config)


def _positive_count(text: str) -> int:
    return _bounded(int(text), 1)


def _bounded(value: int, least: int) -> int:
    if not least <= value <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"must be {least} or more")
    return value
