"""A vector's numbers as a figure. Knows matplotlib, and nothing of models."""

import io
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.vectors.vector import SteeringVector

FORMATS = (".png", ".svg", ".pdf")


def plot_vector(vector: SteeringVector, path: str | Path) -> Path:
    """Norms by layer, the direction's and the residual's, and the held-out AUROC below. Returns the path.

    Raises InputError where the suffix is none of .png, .svg and .pdf, or it can't be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a figure ends in {', '.join(FORMATS)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")  # not pyplot's: no window, no global state
    norms, scores = figure.subplots(2, 1, sharex=True)
    layers = sorted(vector.directions)
    _line(norms, {k: vector.raw_norms[k] for k in layers if k in vector.raw_norms}, "direction")
    _line(norms, {k: vector.median_residual_norms[k] for k in layers if k in vector.median_residual_norms}, "residual")
    norms.set_yscale("log")
    norms.set_ylabel("length")
    norms.set_title(_plain(f"{vector.name}, {vector.model or 'model not known'}, {vector.method}"), parse_math=False)
    norms.legend()
    _line(scores, {k: v for k, v in vector.held_out_auroc.items() if k in vector.directions}, "held-out AUROC")
    scores.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    scores.set_ylim(0, 1.03)
    scores.set_ylabel("held-out AUROC")
    scores.set_xlabel("layer (block whose output is edited)")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.lower()[1:], dpi=130)
    return write_whole(path, drawn.getvalue(), parents=True)


def _line(axes: Any, values: dict[int, float], label: str) -> None:
    axes.plot(list(values), list(values.values()), marker="o", markersize=3, label=label)


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:120]
