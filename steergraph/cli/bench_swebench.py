"""`steergraph bench swebench`: the command line of a batch run. How it goes is `run`'s business."""

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Register on the `add_subparsers()` object of `steergraph bench`."""
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
    p.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    p.add_argument("--samples", type=_positive_count, default=1, metavar="N", help="best of N (default: 1)")
    p.add_argument("--temperature", type=_number, default=0.7, metavar="T", help="of samples by seed (default: 0.7)")
    p.add_argument("--jobs", type=_positive_count, default=8, metavar="N", help="samples in flight (default: 8)")
    p.add_argument("--max-seconds", type=_number, default=0.0, metavar="S", help="for each sample; 0: no limit")
    p.add_argument("--max-tokens", type=_count, default=0, metavar="T", help="for each sample; 0: no limit")
    p.add_argument("--max-repairs", type=_count, default=None, metavar="N", help="repair rounds (default: 3)")
    p.add_argument("--test", metavar="CMD", help="run in the sandbox before and after each patch")
    p.add_argument("--test-seconds", type=_number, default=120.0, metavar="S", help="for one test run (default: 120)")
    p.add_argument("--unsafe-tests", action="store_true", help="run it with limits only where no sandbox can be had")
    p.add_argument("--thinking", action="store_true", help="let the model think before it answers")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--deterministic", action="store_true", help="each row alone: slower, and the same every time")
    p.add_argument("--roster", metavar="FILE", help="specialists of your own, laid over the packaged ones")
    p.add_argument("--vectors", metavar="DIR", help="a folder of vectors to speak with")
    p.add_argument("--policy", metavar="FILE", help="a policy of your own, laid over the packaged one")
    p.add_argument("--run-id", metavar="ID", help="the run's name; the same one goes on with it (default: the time)")
    p.add_argument("--runs", default="runs", metavar="DIR", help="where runs are kept (default: runs)")
    p.add_argument("--retry-errors", action="store_true", help="do those anew that ended with an error")
    p.add_argument("--state", metavar="URL", help="graph state in Postgres (or STEERGRAPH_STATE); default: SQLite")
    p.add_argument("--ray", metavar="ADDRESS|local", help="over a Ray cluster, a replica of the model in each actor")
    p.add_argument("--replicas", type=_positive_count, metavar="N", help="with --ray (default: one a GPU or node)")
    p.add_argument("--json", action="store_true", help="print the summary as JSON and no progress")
    p.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from steergraph.evals.swebench.run import run_swebench

    return run_swebench(arguments)


def _positive_count(text: str) -> int:
    return _bounded(int(text), 1)


def _count(text: str) -> int:
    return _bounded(int(text), 0)


def _bounded(value: int, least: int) -> int:
    if not least <= value <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"must be {least} or more")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value
