"""`steergraph bench`: its benchmarks. Nothing heavy is imported before one runs."""

import argparse
import os
from typing import Any, get_args

from steergraph.cli import bench_swebench
from steergraph.retrieval import Ranker


def add_parser(commands: Any) -> None:
    """Register `bench` and its benchmarks on the `add_subparsers()` object of the `steergraph` command."""
    bench = commands.add_parser("bench", help="run a benchmark: SWE-bench and others")
    benchmarks = bench.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    bench_swebench.add_parser(benchmarks)
    add_retrieval(benchmarks)


def add_retrieval(commands: Any) -> None:
    """Register on the `add_subparsers()` object of `steergraph bench`."""
    p = commands.add_parser("retrieval", help="does retrieval find the gold files? against rank_bm25, with intervals")
    p.add_argument("--dataset", required=True, nargs="+", metavar="FILE", help="parquet, JSON or JSONL, with `patch`")
    p.add_argument("--repos", metavar="DIR|URL", help="clones and bundles, or a URL with {repo} (default: GitHub)")
    p.add_argument(
        "--instances",
        nargs="+",
        default=[],
        metavar="WHICH",
        help="ids with commas, @FILE, a slice 0:20, /REGEX/, balanced:20; several narrow it down, left to right",
    )
    p.add_argument("--jobs", type=_jobs, default=os.cpu_count() or 1, metavar="N", help="processes (default: cores)")
    p.add_argument("--out", metavar="DIR", help="rankings.jsonl and table.md; the same folder goes on where it stopped")
    p.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json to count budgets with (default: 4 characters)")
    p.add_argument("--ranker", choices=get_args(Ranker), default="fields", help="how to rank (default: fields)")
    p.add_argument("--rerank", metavar="DIR", help="a cross-encoder or embedding model that orders passages again")
    p.add_argument("--fit", action="store_true", help="also fit the weights to all that was measured, and print them")
    p.set_defaults(run=_retrieval)


def _retrieval(arguments: argparse.Namespace) -> int:
    from steergraph.evals.retrieval.bench import run_retrieval

    return run_retrieval(arguments)


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError("a whole number from 1 to 1024 is needed")
    return int(text)
