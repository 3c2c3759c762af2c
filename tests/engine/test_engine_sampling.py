"""Logit processors under transformers' names: greedy text equals `generate`'s, distributions equal the warpers'."""

from typing import Any

import pytest
import torch
from engine_help import TEXTS, ask, steer, tiny_library, tiny_loaded
from pydantic import ValidationError

from steergraph.engine.decode.sampling import Penalties, probabilities
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Sampling

PENALTIES: list[dict[str, Any]] = [
    {"repetition_penalty": 1.8},
    {"no_repeat_ngram_size": 1},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    {"min_new_tokens": 16},
]


@pytest.mark.parametrize("asked", PENALTIES)
def test_greedy_text_equals_generate_with_the_same_processors(asked: dict[str, Any]) -> None:
    loaded = tiny_loaded()
    changed = 0
    with LocalEngine(loaded) as engine:
        plain = engine.generate([ask(text, tokens=20) for text in TEXTS])
        sampling = Sampling(max_new_tokens=20, **asked)
        for text, before, completion in zip(
            TEXTS, plain, engine.generate([ask(text, sampling=sampling) for text in TEXTS]), strict=True
        ):
            prompt = engine._chat.prompt(ask(text).messages or ())
            oracle = loaded.model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, **asked)
            expected = oracle[0, len(prompt) :].tolist()
            assert list(completion.token_ids) == [token for token in expected if token not in loaded.eos_ids]
            changed += completion.token_ids != before.token_ids
    assert changed or "min_new_tokens" in asked


def test_min_new_tokens_holds_the_end_back() -> None:
    logits = torch.zeros(10)
    logits[4] = 9.0
    penalties = Penalties(Sampling(min_new_tokens=3), 5, frozenset({4}))
    assert penalties([1] * 7, logits).argmax() != 4
    assert penalties([1] * 8, logits).argmax() == 4


@pytest.mark.parametrize(
    ("name", "value", "warper"),
    [
        ("min_p", 0.2, "MinPLogitsWarper"),
        ("typical_p", 0.5, "TypicalLogitsWarper"),
        ("epsilon_cutoff", 0.02, "EpsilonLogitsWarper"),
        ("eta_cutoff", 0.05, "EtaLogitsWarper"),
    ],
)
def test_warpers_cut_what_transformers_cuts(name: str, value: float, warper: str) -> None:
    import transformers

    torch.manual_seed(0)
    for top_p in (1.0, 0.8):
        logits = torch.randn(1, 60) * 2
        scores = transformers.TemperatureLogitsWarper(0.8)(None, logits)
        scores = transformers.TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
        scores = getattr(transformers, warper)(value)(None, scores)
        ours = probabilities(logits[0], Sampling(temperature=0.8, top_p=top_p, **{name: value}))
        assert torch.allclose(ours, scores.softmax(dim=-1)[0], atol=1e-6)
        assert (ours == 0).sum() > 0


def test_a_neighbours_penalties_change_nobody() -> None:
    loaded = tiny_loaded()
    warm = Sampling(temperature=0.9, max_new_tokens=12)
    penal = Sampling(temperature=0.9, max_new_tokens=12, repetition_penalty=1.5, min_p=0.1, no_repeat_ngram_size=2)
    requests = [ask(TEXTS[0], sampling=warm, seed=4, steering=steer()), ask(TEXTS[1], sampling=penal, seed=5)]
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        together = engine.generate(requests)
        assert [one.token_ids for one in together] == [engine.generate([one])[0].token_ids for one in requests]


def test_what_is_no_sampling_is_refused() -> None:
    for wrong in ({"min_p": 1.5}, {"repetition_penalty": 0.0}, {"no_repeat_ngram_size": -1}, {"beam": 3}):
        with pytest.raises(ValidationError):
            Sampling(**wrong)


def test_ordinary_sampling_asks_for_no_processor() -> None:
    assert not Penalties(Sampling(temperature=0.7, top_p=0.8, top_k=20), 4, frozenset({2}))
