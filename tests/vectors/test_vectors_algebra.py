"""Sums, negations and tables; and that switching vectors leaves nothing behind in the model."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import HIDDEN, LAYERS, tiny_model

from steergraph.base.errors import InputError
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import ScoreRequest
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.compare.algebra import cosine_table, norm_table, scaled, weighted_sum
from steergraph.vectors.library import Library
from steergraph.vectors.store.files import load_vector, save_vector
from steergraph.vectors.vector import SteeringVector, make_vector

weights = st.floats(-4, 4).filter(lambda w: abs(w) > 1e-3)


def vector(
    name: str, seed: int, layers: tuple[int, ...] = (0, 1, 2), width: int = HIDDEN, **facts: str
) -> SteeringVector:
    generator = torch.Generator().manual_seed(seed)
    directions = {layer: torch.randn(width, generator=generator) * 3 for layer in layers}
    return make_vector(
        name, directions, **{"model": "m", **facts}, median_residual_norms=dict.fromkeys(layers, 2.0 + seed)
    )


@settings(deadline=None, max_examples=25)
@given(st.lists(weights, min_size=1, max_size=4))
def test_a_sum_is_the_sum(given_weights: list[float]) -> None:
    parts = [vector(f"v{k}", k) for k in range(len(given_weights))]
    total = weighted_sum(parts, given_weights, name="sum")
    for layer in total.directions:
        wanted = sum(w * p.directions[layer].double() for w, p in zip(given_weights, parts, strict=True))
        torch.testing.assert_close(total.directions[layer].double(), wanted, atol=1e-4, rtol=1e-5)
        assert total.raw_norms[layer] == pytest.approx(float(wanted.norm()), rel=1e-5)
    assert total.parents == tuple(part.hash for part in parts)


@settings(deadline=None, max_examples=25)
@given(st.lists(weights, min_size=2, max_size=4), st.integers(0, 999))
def test_an_orthogonal_sum_keeps_the_first_and_adds_only_what_is_new(given_weights: list[float], seed: int) -> None:
    parts = [vector(f"v{k}", seed + k) for k in range(len(given_weights))]
    for scale in ("raw", "unit_vector"):
        total = weighted_sum(parts, given_weights, name="sum", orthogonal=True, scale=scale)
        for layer, direction in total.directions.items():
            first = parts[0].directions[layer].double()
            unit = first / first.norm()
            wanted = given_weights[0] * (float(first.norm()) if scale == "raw" else 1.0)
            assert float(direction.double() @ unit) == pytest.approx(wanted, abs=1e-4)
            basis, _ = torch.linalg.qr(torch.stack([p.directions[layer].double() for p in parts]).T)
            along = (direction.double() @ basis).abs()
            if scale == "unit_vector":
                assert along.tolist() == pytest.approx([abs(w) for w in given_weights], abs=1e-4)


def test_a_direction_that_adds_nothing_new_counts_once() -> None:
    one = vector("one", 1)
    total = weighted_sum([one, scaled(one, 2.0, name="two")], [1.0, 5.0], name="sum", orthogonal=True)
    for layer in one.directions:
        torch.testing.assert_close(total.directions[layer], one.directions[layer])


def test_negation_turns_and_nothing_else() -> None:
    one = vector("one", 1)
    turned = scaled(one, -1)
    assert turned.name == "one"
    assert turned.hash != one.hash
    for layer, direction in one.directions.items():
        assert torch.equal(turned.directions[layer], -direction)
    assert turned.median_residual_norms == one.median_residual_norms
    back = scaled(turned, -1)
    assert all(torch.equal(back.directions[k], one.directions[k]) for k in one.directions)


def test_layers_are_those_that_all_have_and_provenance_says_what_was_summed(tmp_path: Path) -> None:
    one, two = vector("one", 1, (0, 1, 2)), vector("two", 2, (1, 2, 3))
    total = weighted_sum([one, two], [1, -0.5], name="mix", scale="unit_vector")
    assert sorted(total.directions) == [1, 2]
    assert total.settings == {"weights": [1.0, -0.5], "scale": "unit_vector", "names": ["one", "two"]}
    assert total.median_residual_norms == {1: 3.5, 2: 3.5}
    assert total.method == "weighted_sum"
    assert load_vector(save_vector(total, tmp_path / "mix.safetensors")) == total


def test_tables() -> None:
    one, two = vector("one", 1), vector("two", 2)
    table = cosine_table([one, two, scaled(one, -2, name="turned")], 1)
    wanted = torch.nn.functional.cosine_similarity(one.directions[1], two.directions[1], dim=0)
    assert table.diagonal().tolist() == pytest.approx([1, 1, 1])
    assert float(table[0, 1]) == pytest.approx(float(wanted), abs=1e-6)
    assert float(table[0, 2]) == pytest.approx(-1)
    assert torch.equal(table, table.T)
    norms = norm_table([one])["one"]
    assert norms[2] == (pytest.approx(one.raw_norms[2]), pytest.approx(one.raw_norms[2] / 3.0))


def test_sums_that_mean_nothing_are_one_line() -> None:
    one = vector("one", 1)
    for parts, amounts, word in (
        ([], [], "a weight for each"),
        ([one], [1, 2], "a weight for each"),
        ([one], [float("nan")], "not a finite number"),
        ([one], [0.0], "zero at every layer"),
        ([one, scaled(one, -1)], [1, 1], "zero at every layer"),
        ([one, vector("two", 2, width=8)], [1, 1], "project one first"),
        ([one, vector("two", 2, model="other")], [1, 1], "one model only"),
        ([one, vector("two", 2, (7,))], [1, 1], "no layer in common"),
    ):
        with pytest.raises(InputError, match=word):
            weighted_sum(parts, amounts, name="sum")
    with pytest.raises(InputError, match="no direction at layer 9"):
        cosine_table([one], 9)


def test_switching_leaves_no_residue() -> None:
    """Whatever was switched on before, what follows has the very bits it has in a model that was never steered."""
    model = load_model(str(tiny_model("lfm2")))
    library = Library(
        {name: vector(name, seed, tuple(range(LAYERS)), model="") for seed, name in enumerate(("a", "b"))}
    )
    prompt, said = tuple(range(5, 30)), (7, 8, 9, 10)

    def steered(name: str | None, operation: str = "add") -> Steering | None:
        if name is None:
            return None
        part = Component(vector=name, layer=1, alpha=4.0, operation=operation)
        return Steering(components=(part,))

    def score(engine: LocalEngine, steering: Steering | None) -> tuple[float, ...]:
        request = ScoreRequest(token_ids=prompt, continuation=said, steering=steering)
        return engine.score([request])[0].logprobs

    states = [steered(None), steered("a"), steered("b"), steered("a", "ablate")]
    alone = []
    for state in states:
        with LocalEngine(model, library) as fresh:
            alone.append(score(fresh, state))
    assert len(set(alone)) == len(states)
    with LocalEngine(model, library) as engine:
        for before, after in itertools.permutations(range(len(states)), 2):
            score(engine, states[before])
            assert score(engine, states[after]) == alone[after]
    with torch.no_grad():
        logits = model.model(torch.tensor([[*prompt, *said[:-1]]])).logits[0, -len(said) :]
    plain = logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0]
    assert plain.tolist() == pytest.approx(list(alone[0]), abs=1e-5)
