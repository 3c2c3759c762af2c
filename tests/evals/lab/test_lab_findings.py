"""What a sweep's rows are taken to say: made-up rows with known answers."""

import pytest
import yaml

from steergraph.engine.protocol import ModelInfo
from steergraph.evals.lab import published
from steergraph.evals.lab.experiment import Answer
from steergraph.evals.lab.findings import choose, judged, scores, thirds
from steergraph.evals.lab.ids import BASELINE, Cell, ItemId
from steergraph.evals.lab.sweep import Coherent

LAYERS = 6
CELLS = [Cell(domain="law", source="contrast", unit="residual", alpha=0.3, layer=layer) for layer in range(LAYERS)]
BOUNDS = Coherent(repetition=0.1, nats=1.0)
INFO = ModelInfo(
    name="made-up",
    revision="abc",
    architecture="X",
    n_layers=LAYERS,
    hidden_size=8,
    window=64,
    kind="instruct",
)


def row(item: int, prompt: str, arm: str, *, right: bool, register: bool, text: str = "x", nats: float = 0.1) -> Answer:
    metrics = {"domain": float(register), "accurate": float(right), "repetition": 0.0, "empty": 0.0, "nats": nats}
    name = str(ItemId("law", prompt, "select", item))
    return Answer(item=name, arm=arm, text=text, metrics=metrics, relative_dose=0.0 if arm == BASELINE else 0.3)


def made_up(n: int = 20) -> list[Answer]:
    """Layer 2 helps the task, layer 3 the register, layer 1 both but babbles; layers 4 and 5 change nothing."""
    rows = []
    for prompt in ("own", "open"):
        for item in range(n):
            rows.append(row(item, prompt, BASELINE, right=item < 4, register=False))
            for cell in CELLS:
                layer = cell.layer
                rows.append(
                    row(
                        item,
                        prompt,
                        cell.arm.name,
                        right=item < {1: n, 2: n}.get(layer, 4),
                        register=layer in (1, 3),
                        text="x" if layer >= 4 else "y",
                        nats=5.0 if layer == 1 else 0.2,
                    )
                )
    return rows


def test_the_best_coherent_cell_is_chosen_for_each_goal() -> None:
    found = {one.goal: one for one in choose(scores(made_up(), {"law": CELLS}), BOUNDS)}
    assert found["task"].cell.layer == 2
    assert (found["task"].chosen_score, found["task"].baseline_score) == (1.0, 0.2)
    assert found["register"].cell.layer == 3


def test_verdicts_come_from_the_other_split_and_are_corrected_together() -> None:
    drafts = choose(scores(made_up(), {"law": CELLS}), BOUNDS)
    found = {one.goal: one for one in judged(drafts, made_up())}
    task = found["task"].accuracy
    assert task is not None
    assert task.verdict == "better"
    assert (task.first, task.second, task.n) == (1.0, 0.2, 20)
    assert task.p_corrected is not None
    assert task.p_corrected >= task.p
    assert (found["task"].changed, found["task"].repetition, found["task"].nats) == (1.0, 0.0, pytest.approx(0.1))
    register = found["register"]
    assert register.register_rate is not None
    assert register.register_rate.verdict == "better"
    assert register.accuracy is not None
    assert register.accuracy.verdict == "not shown"


def test_late_layers_are_held_against_middle_ones() -> None:
    (one,) = thirds(made_up(), {"law": CELLS}, LAYERS)
    assert (one.changed.first, one.changed.second, one.changed.n) == (0.0, 1.0, 20)  # a question counts once
    assert one.changed.verdict == "worse"
    assert one.register_gain is not None
    assert (one.register_gain.first, one.register_gain.second) == (0.0, 0.5)
    assert "**fewer**" in published.thirds_table([one])
    closed = [row for row in made_up() if "/own/" in row.item]
    assert thirds(closed, {"law": CELLS}, LAYERS)[0].register_gain is None


def test_the_cells_file_is_one_that_the_graph_reads() -> None:
    found = judged(choose(scores(made_up(), {"law": CELLS}), BOUNDS), made_up())
    table = yaml.safe_load(published.cells_yaml(INFO, found, "steergraph lab sweep --model made-up"))
    assert (table["model"], table["n_layers"], table["hidden_size"]) == ("made-up", LAYERS, 8)
    (one,) = table["tables"]
    assert one["proven"] is True
    assert one["cells"]["law"]["layer"] == 2
    assert {"source", "metric", "n", "note", "unit"} <= one.keys()
    assert "| law | task |" in published.found_table(found)


def test_a_cell_that_gained_nothing_is_not_one_to_steer_with() -> None:
    flat = [row.model_copy(update={"metrics": {**row.metrics, "accurate": 1.0}}) for row in made_up()]
    found = judged(choose(scores(flat, {"law": CELLS}), BOUNDS), flat)
    assert yaml.safe_load(published.cells_yaml(INFO, found, "x"))["tables"] == []
