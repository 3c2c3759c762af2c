"""Listening: the score is the log-odds it says, the choice is by held-out texts, and a condition switches steering."""

from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model

from steergraph.base.errors import InputError
from steergraph.engine.activations.sequences import Activations
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.compare.probe import Probe, choose_probe, learn_probe
from steergraph.vectors.extract.contrast import ContrastSet
from steergraph.vectors.store.probes import ensure_probe, load_probe, save_probe

WORDS = ("pear", "plum", "walk", "tea", "bread", "chair", "rain", "train")
PLAIN = tuple(f"a {word} and {other}" for word in WORDS for other in WORDS[:2])


@cache
def loaded(architecture: str = "qwen3") -> LoadedModel:
    return load_model(str(tiny_model(architecture)))


def domain(name: str, opening: str, neutrals: tuple[str, ...] = PLAIN) -> ContrastSet:
    return ContrastSet(
        name=name,
        domain=name,
        positives=tuple(f"{opening} {word} {other} {opening}" for word in WORDS for other in WORDS[2:4]),
        neutrals=neutrals,
    )


@cache
def sets() -> tuple[ContrastSet, ...]:
    return domain("bugs", "def total(items): return"), domain("tests", "東京 é ü ß 🙂"), domain("rows", "77 8 77 8")


@cache
def probe() -> Probe:
    return learn_probe(loaded(), sets(), method="whitened")


def test_domains_that_a_model_tells_apart_are_scored_highest() -> None:
    assert min(probe().auroc.values()) > 0.9
    fresh = {
        "bugs": "def total(items): return home early",
        "tests": "東京 é ü ß 🙂 home early",
        "rows": "77 8 77 8 early",
    }
    scored = probe().score_texts(loaded(), list(fresh.values()))
    assert [max(scores, key=lambda name: scores[name]) for scores in scored] == list(fresh)


def test_a_score_is_the_log_odds_of_two_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    model = loaded()
    width = model.info.hidden_size
    texts = [text for one in sets() for text in (*one.positives, *one.neutrals)]
    rows = {text: k for k, text in enumerate(dict.fromkeys(texts))}
    states = torch.randn(1, len(rows), width, generator=generator)
    for number, one in enumerate(sets()):
        states[0, [rows[text] for text in one.positives], number] += 6
    activations = Activations({"last_prompt_token": states}, torch.ones(1, len(rows)), torch.zeros(1))
    found = choose_probe(model, sets(), rows, activations)
    for index, one in enumerate(sets()):
        held = [set(one.held_out[0]), set(one.held_out[1])]
        sides = [
            states[0, [rows[t] for k, t in enumerate(side) if k not in out]]
            for side, out in zip((one.positives, one.neutrals), held, strict=True)
        ]
        unit = (sides[0].mean(0) - sides[1].mean(0)).double()
        unit = unit / unit.norm()
        high, low = (side.double() @ unit for side in sides)
        spread = torch.cat([high - high.mean(), low - low.mean()]).square().mean().sqrt()
        new = torch.randn(5, width, generator=generator)
        normal = torch.distributions.Normal
        wanted = normal(high.mean(), spread).log_prob(new.double() @ unit) - normal(low.mean(), spread).log_prob(
            new.double() @ unit
        )
        torch.testing.assert_close(found.score(new)[:, index], wanted.float(), atol=1e-3, rtol=1e-3)


def test_layer_and_position_are_those_that_separate_held_out_texts() -> None:
    model = loaded()
    rows = {text: k for k, text in enumerate(dict.fromkeys(t for o in sets() for t in (*o.positives, *o.neutrals)))}
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4, len(rows), 8, generator=generator)
    clear = noise.clone()
    for number, one in enumerate(sets()):
        clear[2, [rows[text] for text in one.positives], number] += 8
    # At the last prompt token only the texts that make the vector differ: it must not be chosen for what it has seen.
    overfit = noise.clone()
    for number, one in enumerate(sets()):
        used = [rows[text] for k, text in enumerate(one.positives) if k not in one.held_out[0]]
        overfit[1, used, number] += 50
    activations = Activations(
        {"last_prompt_token": overfit, "prompt_mean": clear}, torch.ones(4, len(rows)), torch.zeros(4)
    )
    found = choose_probe(model, sets(), rows, activations)
    assert (found.read, found.layer) == ("prompt_mean", 2)


def test_a_condition_steers_where_its_domain_scores() -> None:
    condition = probe().conditions["bugs"]
    assert condition.balanced_accuracy > 0.9
    assert condition.n == 4 * 3 + 4
    steering = Steering(components=(Component(vector="bugs", layer=1, alpha=2.0),))
    texts = [
        "def total(items): return home def total(items): return",
        "東京 é ü ß 🙂 home 東京 é ü ß 🙂",
        "a pear and home",
    ]
    assert probe().conditional_steering(condition, steering, loaded(), texts) == [steering, None, None]
    never = condition.model_copy(update={"threshold": 1e9})
    assert probe().conditional_steering(never, steering, loaded(), texts) == [None] * 3


def test_a_probe_is_kept_and_a_damaged_one_learned_again(tmp_path: Path) -> None:
    made = ensure_probe(loaded(), sets(), cache_dir=tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    read = load_probe(path)
    texts = ["def total", "77 8", "tea"]
    assert read.score_texts(loaded(), texts) == made.score_texts(loaded(), texts)
    assert (read.layer, read.read, read.domains, read.auroc) == (made.layer, made.read, made.domains, made.auroc)
    assert read.conditions == made.conditions
    whole = path.read_bytes()
    for damage in (whole[:-40], b"", b"\x00" * 99, whole.replace(b"steergraph.listener", b"steergraph.something")):
        path.write_bytes(damage)
        with pytest.raises(InputError):
            load_probe(path)
        assert ensure_probe(loaded(), sets(), cache_dir=tmp_path).score_texts(loaded(), texts) == made.score_texts(
            loaded(), texts
        )
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    ensure_probe(loaded(), sets()[:2], cache_dir=tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert not [one for one in tmp_path.rglob("*") if one.name.endswith(".tmp")]


def test_what_cannot_be_probed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two contrast sets"):
        learn_probe(loaded(), sets()[:1])
    with pytest.raises(InputError, match="has a system prompt"):
        learn_probe(loaded(), [sets()[0], sets()[1].model_copy(update={"system": "x", "neutral_system": "y"})])
    with pytest.raises(InputError, match="learned on tiny-qwen3, not on tiny-llama"):
        probe().score_texts(loaded("llama"), ["x"])
    save_probe(probe(), tmp_path / "l.safetensors")
    with pytest.raises(InputError, match=r"not a probe|damaged"):
        load_probe(tmp_path / "none.safetensors")
