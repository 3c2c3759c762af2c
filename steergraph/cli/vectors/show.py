"""`steergraph vectors list` and `show`: which vectors there are, and where one is from.

Knows the command line and how to print. Torch and models are imported only inside the commands that need them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steergraph.base.errors import InputError

if TYPE_CHECKING:
    from steergraph.vectors.vector import SteeringVector


def add_commands(commands: Any) -> None:
    """Register both on the `add_subparsers()` object of `steergraph vectors`."""
    listing = commands.add_parser("list", help="the vectors in the cache, or in a folder")
    listing.add_argument("--model", help="only this model's: a name of the list, or the model's folder")
    listing.add_argument("--folder", metavar="DIR", help="a folder of vectors instead of the cache")
    listing.set_defaults(run=run_list)

    show = commands.add_parser("show", help="one vector: where it is from, and its numbers at every layer")
    show.add_argument("vector", metavar="NAME|FILE", help="a vector of the cache, or a .safetensors file")
    show.add_argument("--model", help="of this model, where several have a vector of that name")
    show.add_argument("--plot", metavar="FILE.png", help="norms and AUROC by layer as a figure")
    show.set_defaults(run=run_show)


def run_list(arguments: argparse.Namespace) -> int:
    """List the vectors of the cache or of a folder."""
    from steergraph.vectors.extract.first_use import cached_vectors
    from steergraph.vectors.library import Library

    model = model_name(arguments.model)
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
        "settings": _settings(vector.settings),
        "made of": ", ".join(vector.parents),
        "used": _counts(vector.metadata.get("used")),
        "held out": _counts(vector.metadata.get("held_out")),
        "cell": f"layer {cell.layer}, alpha {cell.alpha:g} ({cell.unit}, {cell.positions})" if cell else "",
        "evidence": f"{cell.evidence.summary}. {cell.evidence.note}" if cell else "",
    }
    for name, value in facts.items():
        if value:
            console.print(Text(f"{name:<13}{plain(value)}"), soft_wrap=True)
    scores = vector.held_out_auroc
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
    if arguments.plot:
        from steergraph.vectors.compare.plots import plot_vector

        console.print(Text(f"wrote {plot_vector(vector, arguments.plot)}"), soft_wrap=True)
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
        score = vector.held_out_auroc.get(layer)
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
        table.add_row(*(Text(plain(text), overflow="fold") for text in cells))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a pipe has no width of its own, and a folded table can't be searched
    console.print(table)


def model_name(given: str | None) -> str | None:
    """A folder is known by its last name, as a loaded model is."""
    return Path(given).expanduser().resolve().name if given and Path(given).expanduser().is_dir() else given


def find_vector(named: str, model: str | None) -> "tuple[Path, SteeringVector]":
    """The vector that somebody names, by file or by its name in the cache (the newest), and where it lies. Raises
    InputError."""
    import difflib

    from steergraph.vectors.extract.first_use import cached_vectors
    from steergraph.vectors.store.files import PICKLES, SUFFIX, load_vector

    model = model_name(model)
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
    from steergraph.engine.protocol import ModelInfo
    from steergraph.vectors.dose.cells import best_cell

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


def _counts(counts: Any) -> str:
    return ", ".join(f"{n} {side}" for side, n in counts.items()) if isinstance(counts, dict) else ""


def _settings(settings: Any) -> str:
    """One line; what was chosen layer by layer is left to the file."""
    return ", ".join(f"{name} {value}" for name, value in settings.items() if not isinstance(value, dict))[:300]


def plain(text: str) -> str:
    """Without control characters: a file's own words must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
