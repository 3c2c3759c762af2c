"""`steergraph lab`: where steering works on a model of yours.

    steergraph lab sweep --tasks MODULE:NAME --out DIR [--model pocket] [--settings FILE] [--cells FILE] [--maps DIR]
    steergraph lab switching --tasks MODULE:NAME --out DIR [--model pocket] [--settings FILE] [--examples DIR]

Knows the command line. Models are loaded only when it runs.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

DESCRIPTION = "experiments on steering: paired items, arms scored alike, resumable"


def add_parser(subparsers: Any) -> None:
    """Register `lab` on the `add_subparsers()` object of the `steergraph` command."""
    lab = subparsers.add_parser("lab", help=DESCRIPTION)
    experiments = lab.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    sweep = experiments.add_parser("sweep", help="every layer at every dose, in every domain")
    _common(sweep, "sweep")
    sweep.add_argument("--cells", metavar="FILE", help="also write the chosen cells there, as configs/cells/NAME.yaml")
    sweep.add_argument("--maps", metavar="DIR", help="draw the layer x dose maps there, PNG and SVG")
    sweep.set_defaults(run=run_sweep)
    switching = experiments.add_parser("switching", help="vectors switched from step to step, against static and none")
    _common(switching, "switching")
    switching.add_argument("--examples", metavar="DIR", help="the folder of example issues, which are then run too")
    switching.set_defaults(run=run_switching)


def _common(parser: argparse.ArgumentParser, experiment: str) -> None:
    parser.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    parser.add_argument("--tasks", metavar="MODULE:NAME", help="what is asked and how it is judged, as a Python object")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder of results; a run that is there is gone on with"
    )
    parser.add_argument("--settings", metavar="FILE", help=f"YAML laid over configs/experiments/{experiment}.yaml")


def run_sweep(arguments: argparse.Namespace) -> int:
    """Run, write and print; 0 however it comes out."""
    from steergraph.base.files import write_whole
    from steergraph.evals.lab import maps
    from steergraph.evals.lab.published import as_markdown
    from steergraph.evals.lab.sweep import SweepSettings
    from steergraph.evals.lab.sweep_run import run_sweep as whole
    from steergraph.evals.lab.tasks import SweepTasks, load_tasks

    tasks = load_tasks(arguments.tasks, SweepTasks, "sweep")  # type: ignore[type-abstract]
    settings = SweepSettings.load(arguments.settings)
    settings.need(tasks.domains)
    command = _command("sweep", arguments)
    out = Path(arguments.out)
    ready = [out, *(Path(folder) for folder in [arguments.maps] if folder)]
    _make_folders([*ready, Path(arguments.cells).parent] if arguments.cells else ready)
    result = whole(arguments.model, settings, tasks, out, command, say=_say())
    if arguments.cells:
        write_whole(Path(arguments.cells), (out / "cells.yaml").read_text(encoding="utf-8"))
    if arguments.maps:
        name = result.manifest["model"]["name"]
        for what in maps.SHOWN:
            if any(score.prompt == maps.SHOWN[what][0] for score in result.table):
                figure = maps.draw_maps(result.table, what, f"{name}: {maps.SHOWN[what][2]}")
                for path in maps.save_maps(figure, Path(arguments.maps) / f"{Path(name).name}-{what}"):
                    print(f"wrote {path}")
    print(as_markdown(result))
    return 0


def run_switching(arguments: argparse.Namespace) -> int:
    """Run, write and print; 0 however it comes out."""
    from steergraph.evals.lab.switching_run import SwitchingSettings
    from steergraph.evals.lab.switching_run import run_switching as whole
    from steergraph.evals.lab.tasks import SwitchingTasks, load_tasks

    tasks = load_tasks(arguments.tasks, SwitchingTasks, "switching")  # type: ignore[type-abstract]
    settings = SwitchingSettings.load(arguments.settings)
    command = _command("switching", arguments)
    _make_folders([Path(arguments.out)])
    examples = Path(arguments.examples) if arguments.examples else None
    out = Path(arguments.out)
    print(whole(arguments.model, settings, tasks, out, command, _say(), examples=examples))
    return 0


def _command(experiment: str, arguments: argparse.Namespace) -> str:
    """The command for the record: what makes the same result anywhere, so folders are named without their place."""
    model = Path(arguments.model)
    words = ["steergraph", "lab", experiment, "--model", model.name if model.is_dir() else arguments.model]
    words += ["--tasks", arguments.tasks]
    if arguments.settings:
        words += ["--settings", Path(arguments.settings).name]
    if getattr(arguments, "examples", None):
        words += ["--examples", Path(arguments.examples).name]
    return shlex.join(words)


def _make_folders(folders: list[Path]) -> None:
    """Before the long part: what can't be written is said now."""
    import os

    from steergraph.base.errors import InputError

    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise InputError(f"cannot write {folder}: no permission")


def _say() -> Any:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return lambda line: console.print(line, markup=False)
