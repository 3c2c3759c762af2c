"""`steergraph report`: its words. What it does is in build, study_patches and trajectories."""

import argparse
from typing import Any

from steergraph.base.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Register the command on an `add_subparsers()` object."""
    parser = subparsers.add_parser("report", help="pages that hold batch runs side by side (docs/reports.md)")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of batch runs, or files of predictions")
    parser.add_argument("--grades", metavar="DIR", help="where `steergraph eval` wrote: its --out, or logs")
    parser.add_argument("--dataset", metavar="FILE", help="with the gold patches, which are read for the report alone")
    parser.add_argument("--repos", metavar="DIR|URL", help="to apply patches, and see which functions they touch")
    parser.add_argument("--against", metavar="VARIANT", help="what the others are held against (default: baseline)")
    parser.add_argument("--out", default="report", metavar="DIR", help="where the pages go (default: report)")
    parser.add_argument("--trajectories", metavar="DIR", help="write mini-swe-agent's trajectories there, no report")
    parser.add_argument("--study", metavar="DIR", help="score the study's recorded predictions again, no report")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.study:
        from pathlib import Path

        from steergraph.evals.reports.study_patches import run_study

        if arguments.runs:
            raise InputError("--study takes no runs: give its folder alone")
        return run_study(Path(arguments.study), arguments.dataset, arguments.repos)
    if not arguments.runs:
        raise InputError("report: name a run's folder, such as runs/ID, or a file of predictions")
    from steergraph.evals.reports.build import run_report

    return run_report(arguments)
