"""`steergraph vectors extract|list|show`: make vectors, see which there are, and where one is from.

Knows the command line and how to print. Models and torch are imported only inside the commands that need them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.configs import InputError
from steergraph.vectors import exchange_command

if TYPE_CHECKING:
    from steergraph.vectors.library import SteeringVector


def add_parser(subparsers: Any) -> None:
    """Register `vectors` and its commands on the `add_subparsers()` object of the `steergraph` command."""
    vectors = subparsers.add_parser("vectors", help="make, list and inspect steering vectors")
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
    extract.add_argument("--out", metavar="FILE|DIR", help="a copy: a .safetensors file for one vector, else a folder")
    extract.set_defaults(run=run_extract)

    listing = commands.add_parser("list", help="the vectors in the cache, or in a folder")
    listing.add_argument("--model", help="only this model's: a name of the list, or the model's folder")
    listing.add_argument("--folder", metavar="DIR", help="a folder of vectors instead of the cache")
    listing.set_defaults(run=run_list)

    show = commands.add_parser("show", help="one vector: where it is from, and its numbers at every layer")
    show.add_argument("vector", metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    show.add_argument("--model", help="of this model, where several have a vector of that name")
    show.set_defaults(run=run_show)

    exchange_command.add_commands(commands)


def run_extract(arguments: argparse.Namespace) -> int:
    """Make the vectors that the cache lacks, with progress, and list them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from steergraph.vectors.contrast import load_contrast, packaged_sets
    from steergraph.vectors.engine.loading import load_model
    from steergraph.vectors.extract import ensure_vectors, model_folder

    wanted = arguments.contrast or list(packaged_sets())
    names = [load_contrast(name).name for name in wanted]  # a wrong name is told before a model is loaded
    out = _out(arguments.out, len(names))
    loaded = load_model(arguments.model)
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("texts"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        library = ensure_vectors(loaded, wanted, progress=progress)
    print_table(list(library.values()))
    if out is None:
        console.print(f"kept in {model_folder(loaded.info)}", soft_wrap=True, markup=False)
    else:
        from steergraph.vectors.library import save_vector

        paths = [save_vector(next(iter(library.values())), out)] if out.suffix else library.save(out)
        console.print("\n".join(f"wrote {path}" for path in paths), soft_wrap=True, markup=False)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """List the vectors of the cache or of a folder."""
    from steergraph.vectors.extract import cached_vectors
    from steergraph.vectors.library import Library

    model = _model_name(arguments.model)
    if arguments.folder:
        found = [v for v in Library.open(arguments.folder).values() if model in (None, v.model)]
    else:
        found = [vector for _, vector in cached_vectors(model)]
    if not found:
        of = f" of {model}" if model else ""
        print(f"no vectors{of} yet; a run makes those it needs, or: steergraph vectors extract --model MODEL")
        return 0
    print_table(found)
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print one vector's provenance and its numbers at every layer."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    path, vector = find_vector(arguments.vector, arguments.model)
    console = Console(highlight=False)
    cell = _cell(vector)
    facts = {
        "vector": vector.name,
        "hash": vector.hash,
        "file": str(path),
        "model": vector.model or "not known",
        "revision": vector.revision or "not known",
        "width": str(vector.hidden_size),
        "method": vector.method,
        "read at": vector.read_position,
        "contrast set": f"{vector.metadata.get('contrast', '')} {vector.contrast_hash}".strip(),
        "used": _counts(vector.metadata.get("used")),
        "held out": _counts(vector.metadata.get("held_out")),
        "cell": f"layer {cell.layer}, alpha {cell.alpha:g} ({cell.unit}, {cell.positions})" if cell else "",
        "evidence": f"{cell.evidence.summary}. {cell.evidence.note}" if cell else "",
    }
    for name, value in facts.items():
        if value:
            console.print(Text(f"{name:<13}{_plain(value)}"), soft_wrap=True)
    scores = _scores(vector)
    table = Table("layer", "raw norm", "median residual norm", "raw / residual", "held-out AUROC")
    for column in table.columns:
        column.justify = "right"
    for layer in sorted(vector.directions):
        raw, median = vector.raw_norms.get(layer), vector.median_residual_norms.get(layer)
        share = raw / median if raw is not None and median else None
        numbers = (raw, median, share, scores.get(layer))
        row = (str(layer), *("" if value is None else f"{value:.3f}" for value in numbers))
        table.add_row(*row, style="bold" if cell and cell.layer == layer else None)
    console.print(table)
    return 0


def print_table(vectors: "Sequence[SteeringVector]") -> None:
    """One line for each vector, on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "model", "layers", "method", "norm", "AUROC", "hash", "cell")
    for vector in vectors:
        cell = _cell(vector)
        layers = sorted(vector.directions)
        layer = cell.layer if cell and cell.layer in vector.directions else layers[len(layers) // 2]
        score = _scores(vector).get(layer)
        where = f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else str(layers[0])
        proven = ("proven" if cell.evidence.proven else "unproven") if cell else ""
        cells = (
            vector.name,
            vector.model,
            where,
            vector.method,
            f"{vector.raw_norms[layer]:.3g} @{layer}" if layer in vector.raw_norms else "",
            "" if score is None else f"{score:.2f}",
            vector.hash,
            f"layer {cell.layer}, {cell.alpha:g} {cell.unit}, {proven}" if cell else "",
        )
        table.add_row(*(Text(_plain(text), overflow="fold") for text in cells))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a pipe has no width of its own, and a folded table can't be searched
    console.print(table)


def _out(given: str | None, count: int) -> Path | None:
    """Where copies go: a path with a suffix is the file of the only vector, any other a folder."""
    if given is None:
        return None
    path = Path(given)
    if path.suffix and (path.suffix != ".safetensors" or count != 1):
        raise InputError(f"--out {given}: a .safetensors file takes one --contrast; give a folder for several")
    return path


def _model_name(given: str | None) -> str | None:
    """A folder is known by its last name, as a loaded model is."""
    return Path(given).expanduser().resolve().name if given and Path(given).expanduser().is_dir() else given


def find_vector(named: str, model: str | None) -> "tuple[Path, SteeringVector]":
    """The vector that somebody names, by file or by its name in the cache, and where it lies. Raises InputError."""
    return _find(named, _model_name(model))


def _find(named: str, model: str | None) -> "tuple[Path, SteeringVector]":
    """The vector in a file, or the cache's newest of that name. Raises InputError."""
    import difflib

    from steergraph.vectors.extract import cached_vectors
    from steergraph.vectors.files import PICKLES, SUFFIX
    from steergraph.vectors.library import load_vector

    if Path(named).is_file() or Path(named).suffix.lower() in (SUFFIX, *PICKLES):
        return Path(named), load_vector(named)
    found = list(cached_vectors(model))
    matching = [(path, vector) for path, vector in found if vector.name == named]
    if not matching:
        known = sorted({vector.name for _, vector in found})
        near = difflib.get_close_matches(named, known, n=3, cutoff=0.3) or known[:3]
        hint = f"nearest: {', '.join(near)}" if near else "there is none yet: steergraph vectors extract --model MODEL"
        raise InputError(f"no vector called {named!r}{f' of {model}' if model else ''} in the cache; {hint}")
    if len(models := sorted({vector.model for _, vector in matching})) > 1:
        raise InputError(f"{len(models)} models have a vector called {named!r}: name one, as in --model {models[0]}")
    return max(matching, key=lambda pair: pair[0].stat().st_mtime)


def _cell(vector: "SteeringVector") -> Any:
    """The cell at which the vector would be used, or None where its file does not say of which model it is."""
    from steergraph.vectors.cells import best_cell
    from steergraph.vectors.engine.protocol import ModelInfo

    n_layers = vector.metadata.get("n_layers")
    if not vector.model or not isinstance(n_layers, int) or n_layers < 1:
        return None
    info = ModelInfo(
        name=vector.model,
        revision=vector.revision,
        architecture="",
        n_layers=n_layers,
        hidden_size=vector.hidden_size,
        window=1,
        kind="instruct",
    )
    return best_cell(info, str(vector.name).rsplit("/", 1)[-1])


def _scores(vector: "SteeringVector") -> dict[int, float]:
    scores = vector.metadata.get("held_out_auroc")
    if not isinstance(scores, dict):
        return {}
    return {int(k): float(v) for k, v in scores.items() if str(k).isdecimal() and isinstance(v, int | float)}


def _counts(counts: Any) -> str:
    return ", ".join(f"{n} {side}" for side, n in counts.items()) if isinstance(counts, dict) else ""


def _plain(text: str) -> str:
    """Without control characters: a file's own words must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
