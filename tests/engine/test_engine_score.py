"""Scoring options: as each alone, steered per row, with as few forwards and tokens as the rows have in common."""

from collections.abc import Iterator

import pytest
import torch
from engine_help import logits_of, steer, tiny_library, tiny_loaded
from tiny_models import ARCHITECTURES, OTHER_LAYOUTS

from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import ScoreRequest
from steergraph.engine.steering.records import Steering

PROMPT = (1, 40, 41, 42, 43, 44, 45, 46, 47, 48)
OPTIONS = ((7,), (8,), (9,), (10,))
LONGER = ((7, 77, 177), (8,), (9, 27), (7, 77, 12, 14))


class Seen:
    """The shape of every forward's input."""

    def __init__(self, engine: LocalEngine) -> None:
        self.shapes: list[tuple[int, ...]] = []
        hook = lambda m, a, k: self.shapes.append(tuple(k["input_ids"].shape))  # noqa: E731
        self._handle = engine.loaded.model.register_forward_pre_hook(hook, with_kwargs=True)


def scored(prompt: tuple[int, ...], option: tuple[int, ...], steering: Steering | None = None) -> ScoreRequest:
    return ScoreRequest(token_ids=prompt, continuation=option, steering=steering)


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        yield engine


def alone(architecture: str, request: ScoreRequest) -> list[float]:
    prompt, option = list(request.token_ids or ()), [int(token) for token in request.continuation]
    (logits,) = logits_of(tiny_loaded(architecture), [(prompt, option, request.steering)])
    found: list[float] = logits.log_softmax(dim=-1).gather(1, torch.tensor(option)[:, None])[:, 0].tolist()
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_options_score_as_each_alone(architecture: str) -> None:
    loaded = tiny_loaded(architecture)
    steerings = [None, steer(), steer(positions="generated"), steer("w", 2, -5.0, positions=(3, None))]
    requests = [scored(PROMPT[:length], option, one) for length in (10, 4) for one in steerings for option in LONGER]
    with LocalEngine(loaded, tiny_library(loaded.info), max_batch=64) as engine:
        for request, scores in zip(requests, engine.score(requests), strict=True):
            assert list(scores.logprobs) == pytest.approx(alone(architecture, request), abs=1e-4)
            assert (scores.receipt is None) == (request.steering is None)


def test_single_token_options_are_one_row_of_one_forward(engine: LocalEngine) -> None:
    seen = Seen(engine)
    for steering in (None, steer()):
        scores = engine.score([scored(PROMPT, option, steering) for option in OPTIONS])
        assert len({one.total for one in scores}) == len(OPTIONS)
    assert seen.shapes == [(1, len(PROMPT))] * 2
    assert engine.counters.forwards == 2


def test_options_of_one_question_share_its_prompt(engine: LocalEngine) -> None:
    seen = Seen(engine)
    engine.score([scored(PROMPT, option, steer(positions="generated")) for option in LONGER])
    assert seen.shapes == [(1, len(PROMPT) - 1), (len(LONGER), 4)]
    assert engine.counters.forwards == 2


def test_specialists_steered_on_generated_tokens_share_the_prompt_too(engine: LocalEngine) -> None:
    seen = Seen(engine)
    several = [steer(name, 1, 6.0, positions="generated") for name in "vwu"]
    engine.score([scored(PROMPT, (7, 8), one) for one in (None, *several)])
    assert seen.shapes == [(1, len(PROMPT) - 1), (4, 2)]
    seen.shapes.clear()
    engine.score([scored(PROMPT, (7, 8), one) for one in (None, steer(), steer("w"))])
    assert seen.shapes == [(3, len(PROMPT) + 1)]


def test_a_hundred_options_of_one_token_are_one_forward_when_rows_run_alone() -> None:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info), deterministic=True) as engine:
        scores = engine.score([scored(PROMPT, (token,), steer()) for token in range(3, 103)])
        assert engine.counters.forwards == 1 and len(scores) == 100
