"""`steergraph vectors`: its commands, and `extract`, which makes vectors.

Knows the command line and how to print. Models and torch are imported only inside the commands that need them.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError
from steergraph.cli.vectors import calibrate as dose_command
from steergraph.cli.vectors import compose as compose_command
from steergraph.cli.vectors import exchange as exchange_command
from steergraph.cli.vectors import lens as lens_command
from steergraph.cli.vectors import project as project_command
from steergraph.cli.vectors import show as show_command
from steergraph.cli.vectors.show import find_vector as find_vector
from steergraph.cli.vectors.show import print_table as print_table

if TYPE_CHECKING:
    from steergraph.vectors.extract.contrast import ContrastSet

METHOD_NAMES = ("mean_difference", "paired_pca", "whitened", "logistic")
"""As in `methods.METHODS`, which can't be asked without torch; a test holds them together."""


def add_parser(subparsers: Any) -> None:
    """Register `vectors` and its commands on the `add_subparsers()` object of the `steergraph` command."""
    vectors = subparsers.add_parser("vectors", help="make, inspect, combine and carry over steering vectors")
    commands = vectors.add_subparsers(dest="vectors_command", required=True, metavar="COMMAND")

    extract = commands.add_parser("extract", help="make a model's vectors, or take them from the cache")
    extract.add_argument("--model", default="pocket", help="pocket, a Hugging Face id, or a folder (default: pocket)")
    extract.add_argument(
        "--contrast",
        nargs="+",
        default=[],
        metavar="FILE|NAME",
        help="packaged contrast sets, or YAML files of your own (default: every packaged one)",
    )
    extract.add_argument("--recipe", metavar="FILE|NAME", help="make the sets from --data: mmlu_pro, swebench_clusters")
    extract.add_argument("--data", metavar="FILE", help="the dataset of --recipe: parquet, JSON or JSONL")
    extract.add_argument("--exclude", metavar="FILE", help="rows to leave out: a dataset, or an id on each line")
    extract.add_argument(
        "--method", choices=METHOD_NAMES, default="mean_difference", help="default: mean_difference (docs/vectors.md)"
    )
    extract.add_argument(
        "--read",
        choices=("last_prompt_token", "prompt_mean", "marker"),
        help="where the texts are read (default: as the set says, which is the last prompt token)",
    )
    extract.add_argument("--marker", metavar="TEXT", help="--read marker: what to read at")
    extract.add_argument("--out", metavar="FILE|DIR", help="a copy: a .safetensors file for one vector, else a folder")
    extract.set_defaults(run=run_extract)

    show_command.add_commands(commands)
    compose_command.add_command(commands)
    dose_command.add_command(commands)
    project_command.add_command(commands)
    lens_command.add_commands(commands)
    exchange_command.add_commands(commands)


def run_extract(arguments: argparse.Namespace) -> int:
    """Make the vectors that the cache lacks, with progress, and list them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from steergraph.engine.loading.models import load_model
    from steergraph.vectors.extract.first_use import ensure_vectors, model_folder

    sets = _sets(arguments)  # a wrong name is told before a model is loaded
    out = _out(arguments.out, len(sets))
    loaded = load_model(arguments.model)
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("texts"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        library = ensure_vectors(loaded, sets, method=arguments.method, progress=progress)
    print_table(list(library.values()))
    if out is None:
        console.print(f"kept in {model_folder(loaded.info)}", soft_wrap=True, markup=False)
    else:
        from steergraph.vectors.store.files import save_vector

        paths = [save_vector(next(iter(library.values())), out)] if out.suffix else library.save(out)
        console.print("\n".join(f"wrote {path}" for path in paths), soft_wrap=True, markup=False)
    return 0


def _sets(arguments: argparse.Namespace) -> "list[ContrastSet]":
    """The contrast sets that are asked for. Raises InputError."""
    from steergraph.vectors.extract.contrast import ContrastError, load_contrast, packaged_sets

    if arguments.recipe:
        from steergraph.vectors.extract.recipes import excluded_ids, load_recipe, sets_from

        if arguments.contrast or not arguments.data:
            raise InputError("--recipe makes its sets from --data FILE, and takes no --contrast")
        recipe = load_recipe(arguments.recipe)
        out = excluded_ids(arguments.exclude, recipe) if arguments.exclude else None
        sets = list(sets_from(recipe, arguments.data, out))
    else:
        if arguments.data or arguments.exclude:
            raise InputError("--data and --exclude belong to --recipe")
        sets = [load_contrast(name) for name in arguments.contrast or packaged_sets()]
    if arguments.read:
        change = {"read": arguments.read, "marker": arguments.marker, "question": None}
        try:
            sets = [type(one).model_validate({**one.model_dump(), **change}) for one in sets]
        except ValueError as error:
            raise ContrastError(f"--read {arguments.read}: --marker TEXT is given exactly with it") from error
    elif arguments.marker:
        raise InputError("--marker belongs to --read marker")
    return sets


def _out(given: str | None, count: int) -> Path | None:
    """Where copies go: a path with a suffix is the file of the only vector, any other a folder."""
    if given is None:
        return None
    path = Path(given)
    if path.suffix and (path.suffix != ".safetensors" or count != 1):
        raise InputError(f"--out {given}: a .safetensors file takes one --contrast; give a folder for several")
    return path
