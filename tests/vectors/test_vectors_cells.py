"""Published cells equal what their sources say, and a model without any gets a default marked unproven."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steergraph.configs import load_config
from steergraph.engine.protocol import ModelInfo
from steergraph.vectors.dose.cells import best_cell, published

AGENTS = ("code_reading", "bug_analysis", "patch_writing", "test_reasoning")
CLUSTERS = ("django_web", "scientific_computing", "dev_tooling")


def info(name: str, n_layers: int = 28, hidden_size: int = 1024) -> ModelInfo:
    return ModelInfo(
        name=name,
        revision="0" * 16,
        architecture="Qwen3ForCausalLM",
        n_layers=n_layers,
        hidden_size=hidden_size,
        window=4096,
        kind="instruct",
    )


@pytest.mark.parametrize("domain", AGENTS + CLUSTERS)
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "qwen/qwen3-0.6b", "Qwen3-0.6B", "models--Qwen--Qwen3-0.6B"])
def test_published_cells_are_found_by_id_or_folder(name: str, domain: str) -> None:
    cell = best_cell(info(name), domain)
    assert (cell.model, cell.domain, cell.unit, cell.positions) == ("Qwen/Qwen3-0.6B", domain, "unit_vector", "all")
    assert not cell.evidence.proven
    assert cell.evidence.n == 3
    assert "steering-research at da4c081" in cell.evidence.source
    assert cell.evidence.summary.startswith("unproven: keyword hits ")
    assert "held-out" in cell.evidence.note


def test_a_cell_measured_on_a_sibling_says_so() -> None:
    exact, sibling = (
        best_cell(info(f"Qwen/{n}", 36, 2560), "calendar") for n in ("Qwen3-4B-Instruct-2507", "Qwen3-4B")
    )
    assert (exact.layer, exact.alpha) == (sibling.layer, sibling.alpha) == (15, 30.0)
    assert "not on this model" in sibling.evidence.note
    assert "not on this model" not in exact.evidence.note


@pytest.mark.parametrize(
    ("model", "domain"),
    [
        (info("pocket", 12, 128), "bug_analysis"),
        (info("Qwen/Qwen3-0.6B"), "math"),
        (info("Qwen/Qwen3-0.6B-Base"), "bug_analysis"),
        (info("Qwen/Qwen3-0.6B", 4, 32), "bug_analysis"),  # another shape under that name
        (info("Qwen/Qwen3-4B", 36, 2560), "bug_analysis"),
    ],
)
def test_elsewhere_the_default_cell_in_the_middle(model: ModelInfo, domain: str) -> None:
    cell = best_cell(model, domain)
    default = load_config("cells/default")["default_cell"]
    assert (cell.layer, cell.alpha, cell.unit) == (model.n_layers // 2, default["alpha"], "residual")
    assert not cell.evidence.proven
    assert cell.evidence.n == 0
    assert cell.evidence.summary.startswith("unproven: default cell")


def test_a_model_of_one_layer_has_a_cell() -> None:
    assert best_cell(info("one", 1, 8), "math").layer == 0


def test_all_published_cells_lie_inside_their_model() -> None:
    for table in published():
        for domain, cell in table["cells"].items():
            assert 0 <= cell["layer"] < table["n_layers"], domain
            assert cell["alpha"] > 0


def _table(source: str) -> dict[str, Any]:
    (table,) = (table for table in published() if table["source"] == source)
    return table


def _first_best(sweep: list[dict[str, Any]]) -> dict[str, Any]:
    best = max(sweep, key=lambda cell: cell["score"])  # the first of equals, as in the study
    return {"layer": best["layer"], "alpha": best["alpha"], "score": best["score"]}


@pytest.mark.realdata
def test_agent_cells_equal_their_source(data: Path) -> None:
    results = json.loads((data / "steering_research" / "domain_vectors_results.json").read_text())
    table = _table("domain_vectors_results.json")
    assert results["models"]["instruct"] == table["model"]
    recomputed = {domain: _first_best(sweep) for domain, sweep in results["instruct"]["sweep_details"].items()}
    assert recomputed == table["cells"]
    for domain, cell in results["instruct"]["best_config"].items():
        assert recomputed[domain] == {"layer": cell["layer"], "alpha": cell["alpha"], "score": cell["keyword_score"]}
    assert {len(sweep) for sweep in results["instruct"]["sweep_details"].values()} == {15}
    assert {len(norms) for norms in results["instruct"]["layer_norms"].values()} == {table["n_layers"]}


@pytest.mark.realdata
def test_cluster_cells_equal_their_source(data: Path) -> None:
    results = json.loads((data / "steering_research" / "swebench_cluster_results.json").read_text())
    table = _table("swebench_cluster_results.json")
    shape = (table["model"], table["n_layers"], table["hidden_size"])
    assert (results["model"], results["n_layers"], results["hidden_dim"]) == shape
    assert {cluster: _first_best(sweep) for cluster, sweep in results["sweep_details"].items()} == table["cells"]
    assert set(results["best_config"]) == set(CLUSTERS)


@pytest.mark.realdata
def test_the_calendar_cell_equals_its_source(data: Path) -> None:
    results = json.loads((data / "steering_research" / "midlayer_steering_results.json").read_text())
    table = _table("midlayer_steering_results.json")
    assert results["model"] == table["model"]
    candidates = []
    for layer, doses in results["sweep"].items():
        for alpha, answers in doses.items():
            assert len(answers) == table["n"]
            rate = 100 * sum(answer["changed"] for answer in answers.values()) / len(answers)
            if all(answer["type"] != "DEGENERATE" for answer in answers.values()):
                candidates.append((-rate, float(alpha), int(layer)))
    rate, alpha, layer = min(candidates)
    assert table["cells"] == {"calendar": {"layer": layer, "alpha": alpha, "score": -rate}}
    before = Counter(answer["type"] for answer in results["baselines"].values())
    after = Counter(answer["type"] for answer in results["sweep"]["15"]["30.0"].values())
    assert before["JSON"] - after["JSON"] == 3  # what the note says
    assert (rate, alpha, 18) in candidates
    sampling = json.loads((data / "steering_research" / "sampling_steering_results.json").read_text())
    bits = [prompt["L15_a30"] for prompt in sampling["kl_matrix"].values()]
    assert (round(min(bits), 1), round(max(bits), 1)) == (1.5, 21.2)


def test_every_repository_is_in_one_cluster_only() -> None:
    table = load_config("clusters")
    assert set(table["clusters"]) == set(CLUSTERS)
    placed = [repository for repositories in table["clusters"].values() for repository in repositories]
    assert len(placed) == len(set(placed))
    assert all(repository == repository.lower() and repository.count("/") == 1 for repository in placed)
    for cluster, repositories in table["published"].items():
        assert set(repositories) <= set(table["clusters"][cluster])


@pytest.mark.realdata
def test_clusters_cover_swebench_in_the_published_shares(data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = load_config("clusters")
    placed = {repository for repositories in table["clusters"].values() for repository in repositories}
    for name in ("lite_dev", "lite_test", "verified_test"):
        seen = parquet.read_table(data / "swebench" / f"{name}.parquet", columns=["repo"])["repo"].to_pylist()
        assert {repository.lower() for repository in seen} <= placed
    counts = Counter(repository.lower() for repository in seen)
    shares = {c: round(100 * sum(counts[r] for r in rs) / len(seen)) for c, rs in table["published"].items()}
    assert shares == {"django_web": 46, "scientific_computing": 37, "dev_tooling": 15}
