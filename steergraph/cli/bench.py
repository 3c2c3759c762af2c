"""`steergraph bench`: the options of its benchmarks. How each goes is its own business below `evals`."""

import os
from typing import Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.cli.flags import told
from steergraph.cli.options import Instances, Json, Repos, State, Tokenizer
from steergraph.evals.swebench.config import BatchConfig, BatchRequest
from steergraph.retrieval import Ranker


@told("bench")
def swebench(
    ctx: typer.Context, batch: BatchRequest, config: BatchConfig, *, state: State = None, json: Json = False
) -> int:
    """0 once every instance has its row."""
    from steergraph.evals.swebench.run import run_swebench

    return run_swebench(batch, config.anywhere(), ctx.obj, state=state, as_json=json)


def retrieval(
    *,
    dataset: Annotated[list[str], typer.Option(metavar="FILE", help="parquet, JSON or JSONL, with `patch`")],
    repos: Repos = None,
    instances: Instances = None,
    jobs: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="processes")] = os.cpu_count() or 1,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="rankings.jsonl and table.md; the same folder goes on where it stopped"),
    ] = None,
    tokenizer: Tokenizer = None,
    ranker: Annotated[Ranker, typer.Option(help="how files are ranked")] = "fields",
    rerank: Annotated[
        str | None, typer.Option(metavar="DIR", help="a cross-encoder or embedding model that orders passages again")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="also fit the weights to all that was measured, and print them")
    ] = False,
) -> int:
    """0 once every instance is measured or known not to be measurable; 1 where none could be."""
    from steergraph.evals.retrieval.bench import run_retrieval

    if fit and ranker != "fields":
        raise InputError(f"--fit: {ranker} has no weights to fit: leave --ranker out")
    return run_retrieval(
        dataset,
        repos=repos,
        instances=instances or (),
        jobs=jobs,
        out=out,
        tokenizer=tokenizer,
        ranker=ranker,
        reranker=rerank,
        fit_weights=fit,
    )
