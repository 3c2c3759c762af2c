"""`steergraph route-bench`: the accuracy of every router on a model of yours.

Knows the command line and how to print. Models are loaded only when it runs.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Register `route-bench` on the `add_subparsers()` object of the `steergraph` command."""
    bench = subparsers.add_parser("route-bench", help="measure how well each router tells domains apart")
    bench.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    bench.add_argument("--data", metavar="FILE", help="MMLU-Pro's test file; left out, only the agent domains")
    bench.add_argument(
        "--per-group", type=int, metavar="N", help="texts a side of each category's vector (default: 48)"
    )
    bench.add_argument("--tests", type=int, default=40, metavar="N", help="unseen questions a category (default: 40)")
    bench.add_argument("--no-model", action="store_true", help="leave out the router that asks the model, the dearest")
    bench.add_argument("--out", metavar="FILE", help="the tables as JSON")
    bench.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 0 however it comes out."""
    from rich.console import Console

    from steergraph.agents.specialists import Roster
    from steergraph.base.errors import InputError
    from steergraph.base.files import write_whole
    from steergraph.engine.local import LocalEngine
    from steergraph.evals.routing import agent_problems, measure, mmlu_problem, roster_problem

    if arguments.tests < 1:
        raise InputError(f"--tests {arguments.tests}: at least 1")
    if arguments.per_group is not None and not 8 <= arguments.per_group <= 4096:
        raise InputError(f"--per-group {arguments.per_group}: from 8 to 4096")
    problems: dict[str, Any] = {}
    roster = Roster.load()
    if arguments.data:
        whole = mmlu_problem(arguments.data, per_group=arguments.per_group, tests=arguments.tests)
        problems["MMLU-Pro"] = [whole]
        problems["MMLU-Pro, the roster's"] = [roster_problem(whole, roster)]
    problems["agent domains"] = agent_problems()
    errors = Console(stderr=True, highlight=False)

    def report(said: str) -> None:
        errors.print(said, markup=False)

    with LocalEngine(arguments.model) as engine:
        tables = []
        for name, folds in problems.items():
            table = measure(name, folds, engine, roster, report, ask=not arguments.no_model)
            _print(table)
            tables.append(table)
        facts = {"model": engine.info.name, "revision": engine.info.revision}
    if arguments.out:
        content = {**facts, "command": f"steergraph route-bench --model {arguments.model}", "tests": arguments.tests}
        content["tables"] = [table.model_dump(mode="json") for table in tables]
        print(f"wrote {write_whole(Path(arguments.out), json.dumps(content, indent=2) + chr(10), parents=True)}")
    return 0


def _print(table: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{table.name}: {len(table.domains)} domains"
    shown = Table("router", "right", "95 %", "p against the bag of words", "", title=title)
    for score in sorted(table.scores, key=lambda one: -one.right):
        p = "" if score.against_baseline is None else f"{score.against_baseline:.2g}"
        share = f"{score.right / score.n:.1%} of {score.n}"
        shown.add_row(score.router, share, f"{score.low:.1%} to {score.high:.1%}", p, score.note)
    shown.add_row("chance", f"{1 / len(table.domains):.1%}", "", "", "")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(shown)
