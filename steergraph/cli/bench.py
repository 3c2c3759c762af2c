"""`steergraph bench`: the table of its benchmarks. Each module has `add_parser(commands)` and imports nothing heavy."""

from importlib import import_module
from typing import Any

BENCHMARKS = (
    "steergraph.cli.bench_swebench",
    "steergraph.cli.bench_retrieval",
)
"""In the order of the help."""


def add_parser(commands: Any) -> None:
    """Register `bench` and its benchmarks on the `add_subparsers()` object of the `steergraph` command."""
    bench = commands.add_parser("bench", help="run a benchmark: SWE-bench and others")
    benchmarks = bench.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for module in BENCHMARKS:
        import_module(module).add_parser(benchmarks)
