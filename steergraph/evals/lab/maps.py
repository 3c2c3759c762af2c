"""Layer x dose maps of a sweep, as PNG and SVG. Knows matplotlib and scores, nothing of models."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.engine.steering.records import Unit
from steergraph.evals.lab.findings import CellScore
from steergraph.evals.lab.ids import Source

SHOWN = {
    "register": ("open", "register_rate", "in the domain's register, open prompt"),
    "task": ("own", "accuracy", "right answers, own prompt"),
    "changed": ("own", "changed", "answers that steering changed, own prompt"),
}
_UNITS = {"unit_vector": "alpha, direction of length 1", "raw": "alpha, raw difference", "residual": "of residual norm"}


def draw_maps(table: Sequence[CellScore], what: str, title: str) -> Any:
    """A matplotlib Figure: a row of maps for each domain, a column for each source and unit. `what` is one of SHOWN.

    Colour is the share from 0 to 1; a ring marks a cell that is above unsteered, and the unsteered share stands beside
    the domain's name. Raises InputError where there is nothing to draw.
    """
    from matplotlib.figure import Figure

    prompt, field, label = SHOWN[what]
    scores = [score for score in table if score.prompt == prompt]
    domains = list(dict.fromkeys(score.domain for score in scores))
    columns = list(dict.fromkeys((score.cell.source, score.cell.unit) for score in scores if score.cell))
    if not domains or not columns:
        raise InputError(f"no scores under the prompt {prompt!r}: there is no map to draw")
    figure = Figure(figsize=(2.6 * len(columns) + 1.5, 1.35 * len(domains) + 1.2), layout="constrained")
    grid = figure.subplots(len(domains), len(columns), squeeze=False, sharex=True)
    image: Any = None
    for row, domain in enumerate(domains):
        plain = next(getattr(s, field) for s in scores if s.domain == domain and s.cell is None)
        for column, (source, unit) in enumerate(columns):
            axes = grid[row][column]
            image = _draw(axes, [s for s in scores if s.domain == domain], source, unit, field, plain)
            if row == 0:
                axes.set_title(f"{source}\n{_UNITS[unit]}", fontsize=8)
            if row == len(domains) - 1:
                axes.set_xlabel("layer", fontsize=8)
            if column == 0:
                axes.set_ylabel(f"{domain}\nunsteered {plain:.0%}", fontsize=7)
    figure.colorbar(image, ax=grid.ravel().tolist(), label=label, shrink=0.6)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw(axes: Any, scores: Sequence[CellScore], source: Source, unit: Unit, field: str, plain: float) -> Any:
    here = {
        (s.cell.alpha, s.cell.layer): s for s in scores if s.cell and (s.cell.source, s.cell.unit) == (source, unit)
    }
    alphas = sorted({alpha for alpha, _ in here})
    layers = sorted({layer for _, layer in here})
    values = [[getattr(here[alpha, layer], field) for layer in layers] for alpha in alphas]
    image = axes.imshow(values, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="viridis")
    above = [(x, y) for y, line in enumerate(values) for x, value in enumerate(line) if value > plain]
    if above:
        axes.scatter(*zip(*above, strict=True), s=12, facecolors="none", edgecolors="white", linewidths=0.8)
    axes.set_xticks(range(len(layers)), layers, fontsize=6)
    axes.set_yticks(range(len(alphas)), [f"{alpha:.3g}" for alpha in alphas], fontsize=6)
    return image


def save_maps(figure: Any, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.svg, whole or not at all; the same figure gives the same SVG."""
    from matplotlib import rc_context

    written = []
    for suffix in (".png", ".svg"):
        drawn = io.BytesIO()
        with rc_context({"svg.hashsalt": "steergraph", "svg.fonttype": "none"}):
            figure.savefig(drawn, format=suffix[1:], dpi=110, metadata={"Date": None} if suffix == ".svg" else None)
        written.append(write_whole(stem.with_name(stem.name + suffix), drawn.getvalue(), parents=True))
    return written
