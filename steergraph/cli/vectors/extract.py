"""`steergraph vectors extract`: making a model's vectors.

Knows the command line and how to print. Models and torch are imported only when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from steergraph.base.errors import InputError
from steergraph.cli.console import console, print_line
from steergraph.cli.options import IntoPackage, Model

if TYPE_CHECKING:
    from steergraph.vectors.extract.contrast import ContrastSet

Method = Literal["mean_difference", "paired_pca", "whitened", "logistic"]
"""As in `methods.METHODS`, which can't be asked without torch; a test holds them together."""


def extract(
    *,
    model: Model = "pocket",
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME",
            help="packaged contrast sets, or files of your own, YAML or pairs in JSON (default: every packaged one)",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="make the sets from --data: mmlu_pro, swebench_clusters"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="the dataset of --recipe: parquet, JSON or JSONL")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(metavar="FILE", help="rows to leave out: a dataset, or an id on each line")
    ] = None,
    method: Annotated[Method, typer.Option(help="docs/vectors.md says what each is")] = "mean_difference",
    read: Annotated[
        Literal["last_prompt_token", "prompt_mean", "marker"] | None,
        typer.Option(help="where the texts are read (default: as the set says, which is the last prompt token)"),
    ] = None,
    marker: Annotated[str | None, typer.Option(metavar="TEXT", help="--read marker: what to read at")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE|DIR", help="a copy: a .safetensors file for one vector, else a folder")
    ] = None,
    into_package: IntoPackage = False,
) -> int:
    """Make the vectors that the cache lacks, with progress, and list them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from steergraph.base.folders import check_outside_package
    from steergraph.cli.vectors.show import print_vectors
    from steergraph.engine.loading.models import load_model
    from steergraph.vectors.extract.first_use import ensure_vectors, model_folder
    from steergraph.vectors.store.files import save_vector

    check_outside_package(out, into_package)
    # A wrong name is told before a model is loaded.
    sets = _read_at(
        read, marker, _from_recipe(recipe, data, exclude, contrast) if recipe else _named(contrast, data, exclude)
    )
    copies = _copies(out, len(sets))
    loaded = load_model(model)
    errors = console(errors=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("texts"))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        library = ensure_vectors(loaded, sets, method=method, progress=progress)
    print_vectors(list(library.values()))
    if copies is None:
        print_line(f"kept in {model_folder(loaded.info)}", errors=True)
        return 0
    for path in [save_vector(next(iter(library.values())), copies)] if copies.suffix else library.save(copies):
        print_line(f"wrote {path}", errors=True)
    return 0


def _from_recipe(recipe: str, data: str | None, exclude: str | None, contrast: list[str] | None) -> "list[ContrastSet]":
    from steergraph.vectors.extract.recipes import excluded_ids, load_recipe, sets_from

    if contrast or not data:
        raise InputError("--recipe makes its sets from --data FILE, and takes no --contrast")
    loaded = load_recipe(recipe)
    return list(sets_from(loaded, data, excluded_ids(exclude, loaded) if exclude else None))


def _named(contrast: list[str] | None, data: str | None, exclude: str | None) -> "list[ContrastSet]":
    from steergraph.vectors.extract.contrast import load_contrast, packaged_sets

    if data or exclude:
        raise InputError("--data and --exclude belong to --recipe")
    return [load_contrast(name) for name in contrast or packaged_sets()]


def _read_at(read: str | None, marker: str | None, sets: "list[ContrastSet]") -> "list[ContrastSet]":
    """The sets, read where `--read` says."""
    from steergraph.vectors.extract.contrast import ContrastError

    if read is None:
        if marker:
            raise InputError("--marker belongs to --read marker")
        return sets
    change = {"read": read, "marker": marker, "question": None}
    try:
        return [type(one).model_validate({**one.model_dump(), **change}) for one in sets]
    except ValueError as error:
        raise ContrastError(f"--read {read}: --marker TEXT is given exactly with it") from error


def _copies(out: str | None, count: int) -> Path | None:
    """Where copies go: a path with a suffix is the file of the only vector, any other a folder."""
    if out is None:
        return None
    path = Path(out)
    if path.suffix and (path.suffix != ".safetensors" or count != 1):
        raise InputError(f"--out {out}: a .safetensors file takes one --contrast; give a folder for several")
    return path
