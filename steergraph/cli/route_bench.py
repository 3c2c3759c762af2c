"""`steergraph route-bench`: the accuracy of every router on a model of yours.

Knows the command line and how to print. Models are loaded only when it runs.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from steergraph.base.errors import InputError
from steergraph.cli.console import print_line, print_table
from steergraph.cli.options import Model


def route_bench(
    *,
    model: Model = "pocket",
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="MMLU-Pro's test file; left out, only the agent domains")
    ] = None,
    per_group: Annotated[
        int | None, typer.Option(metavar="N", help="texts a side of each category's vector (default: 48)")
    ] = None,
    tests: Annotated[int, typer.Option(metavar="N", help="unseen questions a category")] = 40,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="leave out the router that asks the model, the dearest")
    ] = False,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="the tables as JSON")] = None,
) -> int:
    """Measure and print; 0 however it comes out."""
    from steergraph.agents.specialists import Roster
    from steergraph.base.files import write_whole
    from steergraph.engine.local import LocalEngine
    from steergraph.evals.routing import agent_problems, measure, mmlu_problem, roster_problem

    if tests < 1:
        raise InputError(f"--tests {tests}: at least 1")
    if per_group is not None and not 8 <= per_group <= 4096:
        raise InputError(f"--per-group {per_group}: from 8 to 4096")
    problems: dict[str, Any] = {}
    roster = Roster.load()
    if data:
        whole = mmlu_problem(data, per_group=per_group, tests=tests)
        problems["MMLU-Pro"] = [whole]
        problems["MMLU-Pro, the roster's"] = [roster_problem(whole, roster)]
    problems["agent domains"] = agent_problems()
    report = partial(print_line, errors=True)
    with LocalEngine(model) as engine:
        tables = []
        for name, folds in problems.items():
            table = measure(name, folds, engine, roster, report, ask=not no_model)
            _print(table)
            tables.append(table)
        facts = {"model": engine.info.name, "revision": engine.info.revision}
    if out:
        content = {**facts, "command": f"steergraph route-bench --model {model}", "tests": tests}
        content["tables"] = [table.model_dump(mode="json") for table in tables]
        print(f"wrote {write_whole(Path(out), json.dumps(content, indent=2) + chr(10), parents=True)}")
    return 0


def _print(table: Any) -> None:
    rows = []
    for score in sorted(table.scores, key=lambda one: -one.right):
        p = "" if score.against_baseline is None else f"{score.against_baseline:.2g}"
        share = f"{score.right / score.n:.1%} of {score.n}"
        rows.append((score.router, share, f"{score.low:.1%} to {score.high:.1%}", p, score.note))
    rows.append(("chance", f"{1 / len(table.domains):.1%}", "", "", ""))
    title = f"{table.name}: {len(table.domains)} domains"
    print_table(("router", "right", "95 %", "p against the bag of words", ""), rows, title=title, least=120)
