"""Doses: KL by hand, the three units agree, and the search finds what was asked for and says so when there is
nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import HIDDEN, LAYERS, tiny_model

from steergraph.base.errors import InputError
from steergraph.engine.loading.chat import Chat
from steergraph.engine.local import LocalEngine
from steergraph.vectors.dose.calibrate import LADDER, Limits, calibrate, save_calibration
from steergraph.vectors.dose.measure import Doses, Spoken, Switch, repetition
from steergraph.vectors.vector import SteeringVector, make_vector

PROMPTS = ["fix the bug", "read the issue and name the cause please", "a pear"]
LAYER = 1


@pytest.fixture(scope="module")
def doses() -> Iterator[Doses]:
    with LocalEngine(str(tiny_model("qwen3"))) as engine:
        yield Doses(engine, PROMPTS, tokens=6)


def vector(medians: bool = True, seed: int = 1) -> SteeringVector:
    generator = torch.Generator().manual_seed(seed)
    directions = {layer: torch.randn(HIDDEN, generator=generator) for layer in range(LAYERS)}
    return make_vector(f"v{seed}", directions, median_residual_norms=dict.fromkeys(directions, 20.0) if medians else {})


def test_kl_is_what_a_hook_by_hand_gives(doses: Doses) -> None:
    one, alpha = vector(), 7.0
    spent = doses.kl(Switch(one, LAYER), [alpha, -alpha])[0]
    model, chat = doses.engine.loaded, Chat(doses.engine.loaded.tokenizer)
    unit = one.directions[LAYER] / one.directions[LAYER].norm()
    found = []
    for messages in doses.messages:
        prompt = chat.prompt(messages)
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(model.model(torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] in model.eos_ids:
                    ids.pop()
                    break
            if len(ids) == len(prompt):
                continue
            plain = model.model(torch.tensor([ids[:-1]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
            hook = model.model.model.layers[LAYER].register_forward_hook(lambda _m, _a, out: out + alpha * unit)
            steered = model.model(torch.tensor([ids[:-1]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
            hook.remove()
        found.append((steered.exp() * (steered - plain)).sum(-1))
    assert doses.positions == sum(map(len, found))
    assert spent.mean == pytest.approx(float(torch.cat(found).mean()), rel=1e-3, abs=1e-5)
    assert spent.p95 == pytest.approx(float(torch.cat(found).quantile(0.95)), rel=1e-3, abs=1e-5)
    assert spent.first_token == pytest.approx(float(torch.stack([one[0] for one in found]).mean()), rel=1e-3, abs=1e-5)


def test_nothing_spends_nothing_and_the_units_agree(doses: Doses) -> None:
    one = vector()
    assert doses.kl(Switch(one, LAYER), [0.0])[0].p95 == 0.0
    length = float(one.directions[LAYER].norm())
    spent = [
        doses.kl(Switch(one, LAYER, unit), [alpha])[0]
        for unit, alpha in (("unit_vector", 4.0), ("raw", 4.0 / length), ("residual", 4.0 / 20.0))
    ]
    for other in spent:
        assert other.p95 == pytest.approx(spent[0].p95, rel=1e-3)
        assert other.relative_dose == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("unit", ["unit_vector", "residual"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_search_spends_what_was_asked(doses: Doses, unit: str, sign: int, tmp_path: Path) -> None:
    found = calibrate(doses, Switch(vector(), LAYER, unit, "generated"), target=0.3, sign=sign)
    assert found.chosen is not None
    assert found.chosen.p95 == pytest.approx(0.3, rel=0.05)
    assert found.chosen.alpha * sign > 0
    again = doses.kl(Switch(vector(), LAYER, unit, "generated"), [found.chosen.alpha])[0]
    assert again.p95 == pytest.approx(found.chosen.p95, rel=1e-3)
    below = [one for one in found.kl if abs(one.alpha) < abs(found.chosen.alpha) * 0.98]
    assert all(one.p95 < 0.3 for one in below)
    written = json.loads(save_calibration(found, tmp_path / "c.json").read_text())
    assert written["vector_hash"] == vector().hash
    assert written["chosen"]["alpha"] == found.chosen.alpha
    assert not written["evidence"]["proven"]
    assert "nats" in written["evidence"]["metric"]


def test_without_a_median_it_is_measured(doses: Doses) -> None:
    switch = Switch(vector(medians=False), LAYER)
    assert 0 < doses.per_alpha(switch) == pytest.approx(1 / doses.median_norm(switch))


def test_the_largest_dose_before_degeneration(doses: Doses) -> None:
    limits = Limits(nll=0.5)
    found = calibrate(doses, Switch(vector(), LAYER), target=None, limits=limits)
    assert found.chosen is None
    assert found.plain is not None
    assert found.first_failing is not None
    assert found.failed in ("nll", "repetition", "empty")
    assert limits.passed(found.first_failing, found.plain) == found.failed
    if found.largest is not None:
        assert not limits.passed(found.largest, found.plain)
        assert found.largest.alpha < found.first_failing.alpha < found.largest.alpha * 4**0.3
    assert [one.alpha for one in found.spoken] == sorted(one.alpha for one in found.spoken)


def test_limits_none_of_which_is_passed(doses: Doses) -> None:
    found = calibrate(doses, Switch(vector(), LAYER), target=None, limits=Limits(nll=99, repetition=2, empty=2))
    assert found.first_failing is None
    assert found.failed == ""
    assert found.largest is not None
    assert found.largest.relative_dose == pytest.approx(LADDER[-1])


def test_what_cannot_be_found_is_one_line(doses: Doses) -> None:
    for target, word in (
        (1e6, "no dose up to 16 times the residual spends"),
        (0.0, "above 0"),
        (float("nan"), "above 0"),
    ):
        with pytest.raises(InputError, match=word):
            calibrate(doses, Switch(vector(), LAYER), target=target)
    with pytest.raises(InputError, match="layer 9 is out of range"):
        calibrate(doses, Switch(vector(), 9))
    with pytest.raises(InputError, match="at least one prompt"):
        Doses(doses.engine, [])


def test_measuring_leaves_the_model_as_it_was(doses: Doses) -> None:
    model, ids = doses.engine.loaded.model, torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = model(ids).logits
        doses.kl(Switch(vector(), LAYER), [50.0])
        assert torch.equal(model(ids).logits, before)


@given(st.lists(st.integers(0, 2), max_size=20))
def test_repetition_counts_what_was_there_before(tokens: list[int]) -> None:
    grams = [tuple(tokens[k : k + 4]) for k in range(len(tokens) - 3)]
    repeated = sum(gram in grams[:index] for index, gram in enumerate(grams))
    assert repetition(tokens) == pytest.approx(repeated / len(grams) if grams else 0.0)


def test_each_limit_is_told_by_name() -> None:
    plain = Spoken(alpha=0, relative_dose=0, nll=1.0, repetition=0.1, empty=0.0)
    for name, value in (("nll", 2.1), ("repetition", 0.31), ("empty", 0.26)):
        assert Limits().passed(plain.model_copy(update={name: value}), plain) == name
    assert Limits().passed(plain, plain) == ""
