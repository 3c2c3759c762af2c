"""A dose for a vector that a model is met with for the first time: measured once, and kept with the vector.

Knows default cells and calibration. A domain that has a cell for the model has its dose; a model that
configs/cells/default.yaml names has the one it says.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.configs import load_config
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import ModelInfo
from steergraph.vectors.dose.calibrate import calibrate
from steergraph.vectors.dose.cells import FirstDose, best_cell, is_guess, known_dose
from steergraph.vectors.dose.measure import Doses, Switch
from steergraph.vectors.extract.first_use import keep
from steergraph.vectors.library import Library
from steergraph.vectors.vector import SteeringVector

_ROUNDS = 2
"""Of section: the bracket's ends then differ by 9 % (4 ** (1 / 16))."""


def with_doses(
    engine: LocalEngine,
    vectors: Library,
    *,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Library:
    """`vectors`, as `ensure_vectors` gave them, each with a dose in its `metadata` where nothing is known of how
    strongly it is to be switched on in the engine's model; kept in the cache too. default.yaml, `first_dose`, says what
    it is to spend, and on how many texts that is measured.

    `progress` is told of each vector before it is measured. A dose that can't be found (none that was tried spends so
    much, or the model answers nothing) is kept as that, with the reason.
    """
    dosed, doses = dict(vectors), None
    for name, vector in vectors.items():
        if not _needed(engine.info, vector, name):
            continue
        progress(name)
        doses = doses or _Doses(engine)
        dosed[name] = doses.dosed(vector, name)
        keep(dosed[name], engine.info, cache_dir)
    return Library(dosed)


def _needed(info: ModelInfo, vector: SteeringVector, domain: str) -> bool:
    cell = best_cell(info, domain)
    return is_guess(info, cell) and known_dose(vector, cell) is None and cell.layer in vector.directions


class _Doses:
    """The unsteered answers that doses are measured at are spoken once, when the first dose is asked for."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._settings: dict[str, Any] = load_config("cells/default")["first_dose"]
        self._doses: Doses | None = None

    def dosed(self, vector: SteeringVector, domain: str) -> SteeringVector:
        cell = best_cell(self._engine.info, domain)
        switch = Switch(vector, cell.layer, cell.unit, cell.positions)
        found: dict[str, Any]
        try:
            result = calibrate(self._measured(), switch, target=self._settings["nats"], rounds=_ROUNDS)
            assert result.chosen is not None
            found = {"alpha": result.chosen.alpha, "evidence": result.evidence}
        except InputError as error:
            found = {"failed": str(error)}
        dose = FirstDose(layer=cell.layer, unit=cell.unit, positions=cell.positions, **found)
        return vector.model_copy(update={"metadata": {**vector.metadata, "dose": dose.model_dump(mode="json")}})

    def _measured(self) -> Doses:
        if self._doses is None:
            texts = load_config("contrast/neutral")[: self._settings["prompts"]]
            self._doses = Doses(self._engine, texts, tokens=self._settings["tokens"], batch_size=8)
        return self._doses
