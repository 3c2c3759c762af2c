"""`steergraph report`: its options. What it does is in build, study_patches and trajectories."""

from pathlib import Path
from typing import Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.base.folders import check_outside_package
from steergraph.cli.options import Repos


def report(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="folders of batch runs, or files of predictions")
    ] = None,
    *,
    grades: Annotated[
        str | None, typer.Option(metavar="DIR", help="where `steergraph eval` wrote: its --out, or logs")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="FILE", help="with the gold patches, which are read for the report alone")
    ] = None,
    repos: Repos = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="VARIANT", help="what the others are held against (default: their baseline)"),
    ] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="where the pages go")] = "report",
    trajectories: Annotated[
        str | None, typer.Option(metavar="DIR", help="write mini-swe-agent's trajectories there, no report")
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="DIR", help="score the study's recorded predictions again, no report")
    ] = None,
) -> int:
    """0 once the pages are written. Raises InputError for bad input."""
    if study:
        from steergraph.evals.reports.study_patches import run_study

        if runs:
            raise InputError("--study takes no runs: give its folder alone")
        return run_study(Path(study), dataset, repos)
    if not runs:
        raise InputError("report: name a run's folder, such as runs/ID, or a file of predictions")
    from steergraph.evals.reports.build import run_report, write_trajectories

    if trajectories:
        return write_trajectories(runs, trajectories)
    check_outside_package(out)
    return run_report(runs, out, logs=grades, dataset=dataset, repos=repos, against=against)
