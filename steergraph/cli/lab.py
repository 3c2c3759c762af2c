"""`steergraph lab`: where steering works on a model of yours.

    steergraph lab sweep --tasks MODULE:NAME --out DIR [--model pocket] [--settings FILE] [--cells FILE] [--maps DIR]
    steergraph lab switching --tasks MODULE:NAME --out DIR [--model pocket] [--settings FILE] [--examples DIR]

Knows the command line. Models are loaded only when it runs.
"""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from steergraph.base.errors import InputError
from steergraph.base.folders import check_outside_package
from steergraph.cli.console import print_line
from steergraph.cli.options import Model

Out = Annotated[str, typer.Option(metavar="DIR", help="folder of results; a run that is there is gone on with")]
Settings = Annotated[str | None, typer.Option(metavar="FILE", help="YAML laid over the packaged experiment's")]


Tasks = Annotated[
    str | None, typer.Option(metavar="MODULE:NAME", help="what is asked and how it is judged, as a Python object")
]


def sweep(
    *,
    model: Model = "pocket",
    tasks: Tasks = None,
    out: Out,
    settings: Settings = None,
    cells: Annotated[
        str | None, typer.Option(metavar="FILE", help="also write the chosen cells there, as configs/cells/NAME.yaml")
    ] = None,
    maps: Annotated[
        str | None, typer.Option(metavar="DIR", help="draw the layer x dose maps there, PNG and SVG")
    ] = None,
) -> int:
    """Run, write and print; 0 however it comes out."""
    from steergraph.base.files import write_whole
    from steergraph.evals.lab.maps import SHOWN, draw_maps, save_maps
    from steergraph.evals.lab.published import as_markdown
    from steergraph.evals.lab.sweep import SweepSettings
    from steergraph.evals.lab.sweep_run import run_sweep
    from steergraph.evals.lab.tasks import SweepTasks, load_tasks

    asked = load_tasks(tasks, SweepTasks, "sweep")  # type: ignore[type-abstract]
    check_outside_package(out)
    loaded, folder = SweepSettings.load(settings), Path(out)
    loaded.need(asked.domains)
    _make_folders([folder, *([Path(maps)] if maps else []), *([Path(cells).parent] if cells else [])])
    result = run_sweep(model, loaded, asked, folder, _command("sweep", model, tasks, settings=settings), say=_say)
    if cells:
        write_whole(Path(cells), (folder / "cells.yaml").read_text(encoding="utf-8"))
    if maps:
        name = result.manifest["model"]["name"]
        for what, (prompt, _, words) in SHOWN.items():
            if any(score.prompt == prompt for score in result.table):
                figure = draw_maps(result.table, what, f"{name}: {words}")
                for path in save_maps(figure, Path(maps) / f"{Path(name).name}-{what}"):
                    print(f"wrote {path}")
    print(as_markdown(result))
    return 0


def switching(
    *,
    model: Model = "pocket",
    tasks: Tasks = None,
    out: Out,
    settings: Settings = None,
    examples: Annotated[
        str | None, typer.Option(metavar="DIR", help="the folder of example issues, which are then run too")
    ] = None,
) -> int:
    """Run, write and print; 0 however it comes out."""
    from steergraph.evals.lab.switching_run import SwitchingSettings, run_switching
    from steergraph.evals.lab.tasks import SwitchingTasks, load_tasks

    asked = load_tasks(tasks, SwitchingTasks, "switching")  # type: ignore[type-abstract]
    check_outside_package(out)
    loaded, folder = SwitchingSettings.load(settings), Path(out)
    _make_folders([folder])
    command = _command("switching", model, tasks, settings=settings, examples=examples)
    print(run_switching(model, loaded, asked, folder, command, _say, examples=Path(examples) if examples else None))
    return 0


def _command(experiment: str, model: str, tasks: str | None, **paths: str | None) -> str:
    """The command for the record: what makes the same result anywhere, so folders are named without their place."""
    words = ["steergraph", "lab", experiment, "--model", Path(model).name if Path(model).is_dir() else model]
    words += ["--tasks", str(tasks)]
    for option, path in paths.items():
        words += [f"--{option}", Path(path).name] if path else []
    return shlex.join(words)


def _make_folders(folders: list[Path]) -> None:
    """Before the long part: what can't be written is said now."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise InputError(f"cannot write {folder}: no permission")


_say = partial(print_line, errors=True)
