"""`steergraph vectors list` and `show`: which vectors there are, and where one is from.

Knows the command line and how to print. Torch and models are imported only inside the commands that need them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steergraph.base.errors import InputError
from steergraph.base.text import printable
from steergraph.cli.console import console, print_line, print_table
from steergraph.cli.options import OfModel, Vector

if TYPE_CHECKING:
    from steergraph.vectors.store.header import Header
    from steergraph.vectors.vector import SteeringVector


def list_vectors(
    *,
    model: Annotated[
        str | None, typer.Option(help="only this model's: a name of the list, or the model's folder")
    ] = None,
    folder: Annotated[str | None, typer.Option(metavar="DIR", help="a folder of vectors instead of the cache")] = None,
) -> int:
    """List the vectors of the cache or of a folder."""
    from steergraph.base.folders import cache_folder

    model = model_name(model)
    if folder and not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder of vectors")
    paths = Path(folder).glob("*.safetensors") if folder else (cache_folder() / "vectors").glob("*/*.safetensors")
    found = _headers(sorted(paths), model)
    if not found:
        of = f" of {model}" if model else ""
        print(f"no vectors{of} yet; a run makes those it needs, or: steergraph vectors extract --model MODEL")
        return 0
    print_vectors(found)
    return 0


def show(
    vector: Vector,
    *,
    model: OfModel = None,
    plot: Annotated[str | None, typer.Option(metavar="FILE.png", help="norms and AUROC by layer as a figure")] = None,
) -> int:
    """Print one vector's provenance and its numbers at every layer."""
    from rich.table import Table

    path, found = find_vector(vector, model)
    cell = _cell(found)
    facts = {
        "vector": found.name,
        "hash": found.hash,
        "file": str(path),
        "model": found.model or "not known",
        "revision": found.revision or "not known",
        "width": str(found.hidden_size),
        "method": found.method,
        "read at": found.read_position,
        "contrast set": f"{found.metadata.get('contrast', '')} {found.contrast_hash}".strip(),
        "settings": _settings(found.settings),
        "made of": ", ".join(found.parents),
        "used": _counts(found.metadata.get("used")),
        "held out": _counts(found.metadata.get("held_out")),
        "cell": f"layer {cell.layer}, alpha {cell.alpha:g} ({cell.unit}, {cell.positions})" if cell else "",
        "evidence": f"{cell.evidence.summary}. {cell.evidence.note}" if cell else "",
    }
    for name, value in facts.items():
        if value:
            print_line(f"{name:<13}{printable(value)}")
    scores = found.held_out_auroc
    table = Table("layer", "raw norm", "median residual norm", "raw / residual", "held-out AUROC")
    for column in table.columns:
        column.justify = "right"
    for layer in sorted(found.directions):
        raw, median = found.raw_norms.get(layer), found.median_residual_norms.get(layer)
        share = raw / median if raw is not None and median else None
        numbers = (raw, median, share, scores.get(layer))
        row = (str(layer), *("" if value is None else f"{value:.3f}" for value in numbers))
        table.add_row(*row, style="bold" if cell and cell.layer == layer else None)
    console().print(table)
    if plot:
        from steergraph.vectors.compare.plots import plot_vector

        print_line(f"wrote {plot_vector(found, plot)}")
    return 0


def _headers(paths: Iterable[Path], model: str | None) -> "list[Header]":
    """What the files say of themselves, those of `model`. One that is damaged is said, and hides no other."""
    from steergraph.vectors.store.header import read_header

    found = []
    for path in paths:
        try:
            header = read_header(path)
        except InputError as error:
            print_line(f"left out: {error}", errors=True)
            continue
        if model is None or header.model.lower() == model.lower():
            found.append(header)
    return found


def print_vectors(vectors: "Sequence[Header | SteeringVector]") -> None:
    """One line for each vector, on standard output."""
    rows = []
    for vector in vectors:
        cell = _cell(vector)
        layers = vector.layers
        layer = cell.layer if cell and cell.layer in layers else layers[len(layers) // 2]
        score = vector.held_out_auroc.get(layer)
        proven = ("proven" if cell.evidence.proven else "unproven") if cell else ""
        rows.append(
            (
                vector.name,
                vector.model,
                f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else str(layers[0]),
                vector.method,
                f"{vector.raw_norms[layer]:.3g} @{layer}" if layer in vector.raw_norms else "",
                "" if score is None else f"{score:.2f}",
                vector.hash,
                f"layer {cell.layer}, {cell.alpha:g} {cell.unit}, {proven}" if cell else "",
            )
        )
    print_table(("name", "model", "layers", "method", "norm", "AUROC", "hash", "cell"), rows, least=160)


def model_name(model: str | None) -> str | None:
    """A folder is known by its last name, a GGUF file by that without its ending, as a loaded model is."""
    if model and model.lower().endswith(".gguf"):
        return Path(model).stem
    return Path(model).expanduser().resolve().name if model and Path(model).expanduser().is_dir() else model


def find_vector(named: str, model: str | None) -> "tuple[Path, SteeringVector]":
    """The vector that somebody names, by file or by its name in the cache (the newest), and where it lies. Raises
    InputError."""
    import difflib

    from steergraph.vectors.extract.first_use import cached_vectors
    from steergraph.vectors.store.files import load_vector
    from steergraph.vectors.store.header import PICKLES, SUFFIX

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


def _cell(vector: "Header | SteeringVector") -> Any:
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
