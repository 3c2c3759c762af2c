"""Cells: at which layer and dose a domain's vector is switched on in a model, and what is known of that choice.

Knows configs/cells: published cells with their evidence, and default.yaml, what to do where there are none.
Knows nothing of vectors or of whether steering is wanted at all.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field, FiniteFloat, ValidationError

from steergraph.base.records import Frozen
from steergraph.configs import ConfigError, load_config
from steergraph.engine.protocol import ModelInfo
from steergraph.engine.steering.records import Positions, Unit


class Evidence(Frozen):
    """What a cell rests on."""

    metric: str
    """What was measured, and how it came out."""
    n: int = Field(ge=0)
    """Prompts it was measured on; 0: never."""
    source: str
    """File and study, or the configuration that says so."""
    proven: bool = False
    """Whether the gain was shown on items that the cell was not chosen on."""
    note: str = ""
    """What speaks against it."""

    @property
    def summary(self) -> str:
        """One line for a trace."""
        state = "proven" if self.proven else "unproven"
        measured = f"{self.metric}, n={self.n}" if self.n else self.metric
        return f"{state}: {measured} ({self.source})"


class Cell(Frozen):
    """Where and how strongly a domain's vector is switched on."""

    model: str
    """The model it was measured on, or the one it is a default for."""
    domain: str
    layer: int = Field(ge=0)
    alpha: FiniteFloat
    unit: Unit
    positions: Positions
    evidence: Evidence


def best_cell(info: ModelInfo, domain: str) -> Cell:
    """The published cell of `domain` for the model where there is one, else the default cell.

    A model is recognised by its hub id or by a folder that ends in its name, in any case, and by its shape: a model of
    that name with other layers or another width has no published cells. Where a table names a revision, other weights
    have none of its cells.
    """
    for table in published():
        if _is_model(info, table) and domain in table["cells"]:
            return _published_cell(info, domain, table)
    return _default_cell(info, domain)


class FirstDose(Frozen):
    """What a vector's file says of its dose in the model it was made for (`metadata["dose"]`)."""

    layer: int
    unit: Unit
    positions: Positions
    alpha: FiniteFloat | None = None
    """None: none was found."""
    evidence: Evidence | None = None
    failed: str = ""
    """Why none was found."""


def known_dose(vector: Any, cell: Cell) -> FirstDose | None:
    """What a vector knows of its dose at a cell's place; None where its file says nothing of it, or nothing sound."""
    try:
        dose = FirstDose.model_validate(getattr(vector, "metadata", {}).get("dose"))
    except ValidationError:
        return None
    return dose if (dose.layer, dose.unit, dose.positions) == (cell.layer, cell.unit, cell.positions) else None


def is_guess(info: ModelInfo, cell: Cell) -> bool:
    """Whether a cell of `best_cell` is the default one, and default.yaml says nothing of this model by its name."""
    return not cell.evidence.n and info.name not in (load_config("cells/default").get("models") or {})


def cell_of(info: ModelInfo, domain: str, vector: Any) -> Cell:
    """`best_cell`, at the vector's own dose where the cell's is a guess and the vector knows one."""
    cell = best_cell(info, domain)
    dose = known_dose(vector, cell) if is_guess(info, cell) else None
    if dose is None:
        return cell
    if dose.alpha is None or dose.evidence is None:
        note = {"note": f"its dose could not be measured: {dose.failed}"}
        return cell.model_copy(update={"evidence": cell.evidence.model_copy(update=note)})
    # A file proves nothing of itself.
    return cell.model_copy(update={"alpha": dose.alpha, "evidence": dose.evidence.model_copy(update={"proven": False})})


def published() -> tuple[dict[str, Any], ...]:
    """Every table of configs/cells: the fields of its file (model, study, unit, ...) with its own (source, metric, n,
    note, cells). Raises ConfigError where one is not in this shape."""
    return _published()


@cache
def _published() -> tuple[dict[str, Any], ...]:
    tables = []
    for name in sorted(e.name for e in files("steergraph.configs").joinpath("cells").iterdir()):
        if not name.endswith(".yaml") or name == "default.yaml":
            continue
        whole = load_config(f"cells/{name[:-5]}")
        try:
            common = {key: value for key, value in whole.items() if key != "tables"}
            tables += [{**common, **table} for table in whole["tables"]]
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"configs/cells/{name}: not a file of cells: {error}") from error
    return tuple(tables)


def _is_model(info: ModelInfo, table: dict[str, Any]) -> bool:
    if (info.n_layers, info.hidden_size) != (table["n_layers"], table["hidden_size"]):
        return False
    if table.get("revision", info.revision) != info.revision:
        return False
    name = info.name.rsplit("/", 1)[-1].lower()
    return any(name.endswith(known.rsplit("/", 1)[-1].lower()) for known in (table["model"], *table.get("also", ())))


def _published_cell(info: ModelInfo, domain: str, table: dict[str, Any]) -> Cell:
    entry = table["cells"][domain]
    note = table["note"]
    measured_on = table["model"]
    if not info.name.lower().endswith(measured_on.rsplit("/", 1)[-1].lower()):
        note = f"measured on {measured_on}, not on this model; {note}"
    try:
        return Cell(
            model=measured_on,
            domain=domain,
            layer=entry["layer"],
            alpha=entry["alpha"],
            unit=table["unit"],
            positions=table["positions"],
            evidence=Evidence(
                metric=f"{table['metric'].split(',')[0]} {entry['score']:g} on {measured_on}",
                n=table["n"],
                source=f"{table['source']}, {table['study']}",
                proven=table["proven"],
                note=f"{table['metric']}; {note}",
            ),
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigError(f"configs/cells: the cell of {domain!r} in {table.get('source')}: {error}") from error


def _default_cell(info: ModelInfo, domain: str) -> Cell:
    table = load_config("cells/default")
    try:
        default = {**table["default_cell"], **(table.get("models") or {}).get(info.name, {})}
        return Cell(
            model=info.name,
            domain=domain,
            layer=min(int(info.n_layers * default["depth"]), info.n_layers - 1),
            alpha=default["alpha"],
            unit=default["unit"],
            positions=default["positions"],
            evidence=Evidence(
                metric="default cell, nothing was measured on this model",
                n=0,
                source="configs/cells/default.yaml",
                note="middle depth at a moderate fraction of the residual's norm",
            ),
        )
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise ConfigError(f"configs/cells/default.yaml: not a default cell: {error}") from error
