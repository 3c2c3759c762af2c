"""A vector's first dose: measured once, kept with it, and used where there is no cell."""

from pathlib import Path

import pytest

from steergraph.agents.specialists import Roster, resolve_steering
from steergraph.engine.local import LocalEngine
from steergraph.vectors.dose.cells import best_cell, cell_of
from steergraph.vectors.dose.first import with_doses
from steergraph.vectors.extract.first_use import cached_vectors, ensure_vectors
from steergraph.vectors.library import Library


@pytest.fixture(scope="module")
def stranger():
    """pocket under another name: a model without cells."""
    from dataclasses import replace

    from steergraph.engine.loading.models import load_model

    loaded = load_model("pocket")
    info = loaded.info.model_copy(update={"name": "stranger"})
    with LocalEngine(replace(loaded, info=info)) as engine:
        yield engine


def test_a_dose_is_measured_once_and_kept(stranger: LocalEngine, tmp_path: Path) -> None:
    told: list[str] = []
    made = ensure_vectors(stranger.loaded, ["math"], cache_dir=tmp_path)
    dosed = with_doses(stranger, made, cache_dir=tmp_path, progress=told.append)
    dose = dosed["math"].metadata["dose"]
    assert told == ["math"] and dosed["math"].hash == made["math"].hash
    assert "spends" in dose["evidence"]["metric"] and 0 < dose["alpha"] < 16 and dose["unit"] == "residual"
    ((_, kept),) = cached_vectors(cache_dir=tmp_path)
    assert kept == dosed["math"]
    again = ensure_vectors(stranger.loaded, ["math"], cache_dir=tmp_path)
    assert with_doses(stranger, again, cache_dir=tmp_path, progress=told.append) == again and told == ["math"]

    specialist = Roster.load(None)["math"]
    steering, evidence = resolve_steering(specialist, dosed, stranger.info)
    assert steering is not None and evidence is not None
    assert steering.components[0].alpha == dose["alpha"] and "spends" in evidence.summary
    without, default = resolve_steering(specialist, made, stranger.info)
    assert without is not None and without.components[0].alpha == 0.15 and "nothing was measured" in default.summary


def test_a_model_that_the_configuration_names_keeps_its_dose() -> None:
    with LocalEngine("pocket") as pocket:
        made = ensure_vectors(pocket.loaded, ["math"])
        assert with_doses(pocket, made, progress=pytest.fail) == made
        assert cell_of(pocket.info, "math", made["math"]) == best_cell(pocket.info, "math")


def test_a_dose_that_cannot_be_found_is_kept_as_that(
    stranger: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steergraph.vectors.dose import first

    settings = {"first_dose": {"nats": 1e6, "prompts": 1, "tokens": 2}}
    monkeypatch.setattr(first, "load_config", lambda name: settings if name == "cells/default" else ["A word."])
    made = ensure_vectors(stranger.loaded, ["law"], cache_dir=tmp_path)
    found = with_doses(stranger, made, cache_dir=tmp_path)
    cell = cell_of(stranger.info, "law", found["law"])
    assert cell.alpha == 0.15 and "could not be measured" in cell.evidence.note
    assert with_doses(stranger, found, cache_dir=tmp_path, progress=pytest.fail) == found


def test_another_place_has_another_dose(stranger: LocalEngine) -> None:
    made = ensure_vectors(stranger.loaded, ["math"])
    dose = {"layer": 0, "unit": "residual", "positions": "all", "alpha": 3.0, "metric": "x", "n": 1, "source": "y"}
    other = Library({"math": made["math"].model_copy(update={"metadata": {"dose": dose}})})
    assert cell_of(stranger.info, "math", other["math"]).alpha == 0.15


@pytest.mark.parametrize("dose", [3, [], {}, {"alpha": "x"}, {"alpha": float("inf")}, {"evidence": 3}])
def test_what_a_strangers_file_says_of_its_dose_is_looked_at(stranger: LocalEngine, dose: object) -> None:
    made = ensure_vectors(stranger.loaded, ["math"])["math"]
    said = (
        {"layer": 6, "unit": "residual", "positions": "all", "alpha": 1.0, **dose} if isinstance(dose, dict) else dose
    )
    if dose == {}:
        said = {"alpha": 1.0}
    vector = made.model_copy(update={"metadata": {"dose": said}})
    assert cell_of(stranger.info, "math", vector).alpha == 0.15
