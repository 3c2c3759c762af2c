"""Maps between models and the likeness of two geometries: against scipy and plain algebra, and against what is no
map."""

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.stats import pearsonr, spearmanr
from tiny_models import HIDDEN, LAYERS, tiny_model

from steergraph.base.errors import InputError
from steergraph.engine.loading.models import LoadedModel, load_model, wrap_model
from steergraph.engine.local import LocalEngine
from steergraph.vectors.compare.geometry import compare, compare_tables, cosines, disparity, scaling
from steergraph.vectors.compare.projection import (
    MAP_METHODS,
    PENALTIES,
    fit_map,
    paired_layer,
    project_vector,
    r_squared,
)
from steergraph.vectors.compare.transfer import (
    Texts,
    compare_directions,
    learn_maps,
    packaged_texts,
    random_vector,
    read_both,
)
from steergraph.vectors.dose.measure import Doses
from steergraph.vectors.extract.contrast import ContrastSet
from steergraph.vectors.extract.difference import extract
from steergraph.vectors.vector import make_vector


def pair(
    seed: int, n: int = 60, a: int = 6, b: int = 9, noise: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, w, e = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((n, a), (b, a), (n, b)))
    return x + 3, (x + 3) @ w.T + 5 + noise * e, w


@pytest.mark.parametrize(("n", "a"), [(60, 6), (40, 80)])
def test_ridge_finds_a_linear_map_and_its_penalty_by_leave_one_out(n: int, a: int) -> None:
    x, y, w = pair(1, n, a, noise=0.3)
    found = fit_map(x, y, "ridge")
    xc, yc = x - x.mean(0), y - y.mean(0)
    size = float((xc**2).sum()) / a

    def left_out(penalty: float) -> float:
        error = 0.0
        for k in range(n):
            keep = [index for index in range(n) if index != k]
            mx, my = x[keep].mean(0), y[keep].mean(0)
            cx, cy = x[keep] - mx, y[keep] - my
            ridge = penalty * size * torch.eye(a, dtype=torch.float64)
            weight = torch.linalg.solve(cx.T @ cx + ridge, cx.T @ cy).T
            error += float(((y[k] - my - weight @ (x[k] - mx)) ** 2).sum())
        return error

    errors = {penalty: left_out(penalty) for penalty in PENALTIES[1:]}
    assert errors[found.settings["penalty"]] == pytest.approx(min(errors.values()), rel=0.02)
    penalty = found.settings["penalty"] * size
    wanted = torch.linalg.solve(xc.T @ xc + penalty * torch.eye(a, dtype=torch.float64), xc.T @ yc).T
    torch.testing.assert_close(found.weight, wanted, atol=1e-6, rtol=1e-6)
    if a < n:
        new_x, new_y = x * 2, (x * 2) @ w.T + 5
        assert r_squared(found, new_x, new_y) > 0.95
        torch.testing.assert_close(found.direction(x[0] - x[1]), found(x[0]) - found(x[1]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("a", "b"), [(7, 7), (5, 9), (9, 5)])
def test_procrustes_finds_a_turning(a: int, b: int) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(50, a, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(max(a, b), max(a, b), generator=generator, dtype=torch.float64))[0][:b, :a]
    found = fit_map(x, 2.5 * x @ turn.T + 1, "procrustes")
    inner = found.weight.T @ found.weight if a <= b else found.weight @ found.weight.T
    scale = found.settings["scale"]
    torch.testing.assert_close(inner, scale**2 * torch.eye(min(a, b), dtype=torch.float64), atol=1e-6, rtol=1e-5)
    if a <= b:
        assert scale == pytest.approx(2.5, rel=1e-6)
        assert r_squared(found, x * 3, 2.5 * 3 * x @ turn.T + 1) == pytest.approx(1, abs=1e-3)


def test_low_rank_is_of_low_rank_and_keeps_what_matters() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(200, 12, generator=generator, dtype=torch.float64)
    thin = torch.randn(15, 2, generator=generator, dtype=torch.float64) @ torch.randn(
        2, 12, generator=generator, dtype=torch.float64
    )
    y = x @ thin.T + 0.5 * torch.randn(200, 15, generator=generator, dtype=torch.float64)
    found = fit_map(x, y, "low_rank", rank=2)
    assert int(torch.linalg.matrix_rank(found.weight)) == 2
    assert float((found.weight - thin).norm()) < float((fit_map(x, y, "ridge").weight - thin).norm())


@pytest.mark.parametrize("method", MAP_METHODS)
def test_noise_has_no_map(method: str) -> None:
    generator = torch.Generator().manual_seed(6)
    x, y, more_x, more_y = (torch.randn(50, 8, generator=generator) for _ in range(4))
    assert r_squared(fit_map(x, y, method), more_x, more_y) < 0.1


def test_maps_that_cannot_be_learned_are_one_line() -> None:
    for x, y, word in (
        (torch.ones(5, 3), torch.ones(5, 3), "at least 16"),
        (torch.ones(20, 3), torch.ones(19, 3), "at least 16"),
        (torch.ones(20, 3), torch.ones(20, 3), "the same for every text"),
    ):
        with pytest.raises(InputError, match=word):
            fit_map(x, y)


def test_layers_are_paired_by_depth() -> None:
    assert [paired_layer(k, 12, 12) for k in range(12)] == list(range(12))
    assert [paired_layer(k, 4, 12) for k in range(4)] == [1, 4, 7, 10]
    assert [paired_layer(k, 12, 4) for k in (0, 2, 3, 11)] == [0, 0, 1, 3]


# --- two models -------------------------------------------------------------------------------------------------------


@cache
def loaded(architecture: str = "qwen3", seed: int = 0) -> LoadedModel:
    return load_model(str(tiny_model(architecture, seed=seed)))


WORDS = ("pear", "total", "issue", "price", "row", "file", "name", "cause")


@cache
def small() -> ContrastSet:
    return ContrastSet(
        name="bugs",
        domain="bugs",
        positives=tuple(f"fix the {a} bug of {b}" for a in WORDS[:4] for b in WORDS[4:]),
        neutrals=tuple(f"a {a}, and no {b}" for a in WORDS[:4] for b in WORDS[4:]),
    )


@cache
def texts() -> Texts:
    free = tuple(f"{a} {k} and then {b} " for a in WORDS for k, b in enumerate(WORDS))
    return Texts(free + small().positives, ("",) * len(free) + ("bugs",) * len(small().positives))


def test_a_models_own_vector_comes_back_through_the_map_to_itself() -> None:
    model, contrast = loaded(), small()
    maps, scores = learn_maps(read_both(model, model, texts()), texts(), "bugs", range(LAYERS))
    vector = extract(model, contrast)
    carried = project_vector(
        vector, maps, model.info, held_out_r2=scores, median_residual_norms=vector.median_residual_norms
    )
    for layer in vector.directions:
        assert scores[layer] > 0.9
        cosine = torch.nn.functional.cosine_similarity(carried.directions[layer], vector.directions[layer], dim=0)
        assert float(cosine) > 0.9
    assert carried.method == "projected_ridge"
    assert carried.parents == (vector.hash,)
    assert carried.settings["source_layers"] == {str(layer): layer for layer in vector.directions}
    assert carried.median_residual_norms == vector.median_residual_norms


def test_no_map_has_seen_the_domains_own_texts() -> None:
    rows, held = texts().split("bugs")
    assert not set(rows) & set(held)
    assert not any(texts().domains[row] == "bugs" for row in (*rows, *held))
    packaged = packaged_texts()
    assert len(set(packaged.texts)) == len(packaged.texts)
    assert {"math", "calendar", ""} <= set(packaged.domains)
    assert not any("rendez-vous" in text for text in packaged.texts)


def test_directions_are_compared_at_equal_kl() -> None:
    with LocalEngine(loaded()) as engine:
        doses = Doses(engine, ["fix the bug", "a pear and a row"], tokens=4)
        native = extract(loaded(), small())
        layer = sorted(native.directions)[1]
        candidates = {"native": native, **{f"random {k}": random_vector(native, layer, k) for k in range(2)}}
        trials = compare_directions(doses, candidates, layer, small(), nats=0.2)
        assert [trial.name for trial in trials] == ["native", "random 0", "random 1"]
        assert all(trial.p95 == pytest.approx(0.2, rel=0.1) for trial in trials)
        turned = compare_directions(doses, {"turned": native}, layer, small(), nats=0.2)
        assert turned[0].selectivity == pytest.approx(trials[0].selectivity, abs=1e-4)


def test_a_vector_that_fits_no_map_is_one_line() -> None:
    maps, _ = learn_maps(read_both(loaded(), loaded("llama"), texts()), texts(), "bugs", [1])
    info = loaded("llama").info
    with pytest.raises(InputError, match="the map takes 32"):
        project_vector(make_vector("v", {1: torch.ones(8)}), maps, info)
    with pytest.raises(InputError, match="none of the mapped layers"):
        project_vector(make_vector("v", {3: torch.ones(HIDDEN)}), maps, info)
    with pytest.raises(InputError, match="can't be carried over"):
        read_both(loaded(), loaded("llama"), texts(), "answer_mean")


# --- geometry ---------------------------------------------------------------------------------------------------------


def cloud(seed: int, n: int = 6, width: int = 10) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"d{k}": torch.randn(width, generator=generator) for k in range(n)}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(4, 9))
def test_measures_are_scipys(seed: int, n: int) -> None:
    first, second = cloud(seed, n, 12), cloud(seed + 1, n, 5)
    found = compare(first, second, permutations=20)
    tables = [cosines(list(side.values())).numpy() for side in (first, second)]
    upper = np.triu_indices(n, 1)
    assert found.spearman.value == pytest.approx(spearmanr(tables[0][upper], tables[1][upper])[0], abs=1e-9)
    assert found.pearson.value == pytest.approx(pearsonr(tables[0][upper], tables[1][upper])[0], abs=1e-9)
    places = [scaling(torch.tensor(table)) for table in tables]
    assert disparity(*places) == pytest.approx(procrustes(*(place.numpy() for place in places))[2], abs=1e-9)
    assert found.procrustes.value == pytest.approx(disparity(*places))
    assert 1 / found.permutations <= found.spearman.p <= 1


def test_the_same_geometry_is_told_from_chance_and_another_is_not() -> None:
    first = cloud(1)
    turn = torch.linalg.qr(torch.randn(17, 10, generator=torch.Generator().manual_seed(2)))[0]
    same = compare(first, {name: 4 * turn @ v for name, v in first.items()})
    assert same.permutations == 720  # all of them
    assert same.spearman.value == pytest.approx(1)
    assert same.procrustes.value == pytest.approx(0, abs=1e-6)
    assert same.spearman.p == same.pearson.p == pytest.approx(1 / 720)
    assert same.procrustes.p < 0.05
    values = [compare(cloud(seed), cloud(seed + 500), permutations=40).spearman.p for seed in range(24)]
    assert sum(p <= 0.05 for p in values) <= 5  # chance gives 1
    assert 0.25 < sum(values) / len(values) < 0.75


def test_a_shared_part_makes_cosines_high_and_centring_takes_it_out() -> None:
    shared = 10 * torch.ones(10)
    table = cosines([v + shared for v in cloud(3).values()])
    assert float(table.min()) > 0.8
    assert float(cosines([v + shared for v in cloud(3).values()], centred=True).min()) < 0


def test_two_dimensions_keep_flat_distances() -> None:
    angles = torch.tensor([0.0, 0.5, 1.4, 3.0, 4.4], dtype=torch.float64)
    flat = torch.stack([angles.cos(), angles.sin()], dim=1)
    placed = scaling(cosines(list(flat)))
    torch.testing.assert_close(torch.cdist(placed, placed), torch.cdist(flat, flat), atol=1e-9, rtol=1e-9)


def test_too_few_domains_say_nothing() -> None:
    with pytest.raises(InputError, match="3 domains in common"):
        compare(cloud(1, 3), cloud(2))
    with pytest.raises(InputError, match="0 domains in common"):
        compare({}, cloud(2))
    assert compare_tables(list("abcd"), torch.eye(4).double(), torch.eye(4).double()).spearman.value == 0.0


# --- a model whose residual stream was turned: it says the same, in another basis -------------------------------------


def turned(network: Any, seed: int = 7) -> Any:
    """A copy of a Qwen3 network with the residual stream turned by a random rotation. RMS norms do not mind a rotation
    once their gains are folded into the weights behind them, so it computes the very same function."""
    copied = copy.deepcopy(network)
    inner, width = copied.model, copied.config.hidden_size
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]
    head = inner.embed_tokens.weight * inner.norm.weight if copied.config.tie_word_embeddings else None
    with torch.no_grad():
        for block in inner.layers:
            readers = [
                (block.input_layernorm, (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj))
            ]
            readers += [(block.post_attention_layernorm, (block.mlp.gate_proj, block.mlp.up_proj))]
            for norm, layers in readers:
                for layer in layers:
                    layer.weight.copy_((layer.weight * norm.weight) @ turn.T)
                norm.weight.fill_(1.0)
            for layer in (block.self_attn.o_proj, block.mlp.down_proj):
                layer.weight.copy_(turn @ layer.weight)
        head = copied.lm_head.weight * inner.norm.weight if head is None else head
        copied.lm_head.weight = torch.nn.Parameter(head @ turn.T)
        inner.norm.weight.fill_(1.0)
        inner.embed_tokens.weight = torch.nn.Parameter(inner.embed_tokens.weight @ turn.T)
    copied.config.tie_word_embeddings = False
    return copied


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_a_vector_finds_its_way_into_a_turned_model(method: str) -> None:
    source = loaded()
    target = wrap_model(turned(source.model), source.tokenizer, name="turned", revision="1")
    ids = torch.tensor([[1, 50, 60, 70]])
    with torch.no_grad():
        torch.testing.assert_close(target.model(ids).logits, source.model(ids).logits, atol=1e-3, rtol=1e-3)
    maps, scores = learn_maps(read_both(source, target, texts()), texts(), "bugs", range(1, LAYERS), method)
    vector, native = extract(source, small()), extract(target, small())
    carried = project_vector(vector, maps, target.info)
    for layer in carried.directions:
        between = torch.nn.functional.cosine_similarity
        assert scores[layer] > 0.9
        assert float(between(carried.directions[layer], native.directions[layer], dim=0)) > 0.95
        assert abs(float(between(vector.directions[layer], native.directions[layer], dim=0))) < 0.7
