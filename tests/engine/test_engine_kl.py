"""The KL in a receipt: against its definition, over exactly the generated tokens, and 0 where nothing was steered."""

import math
from collections.abc import Iterator

import pytest
import torch
from engine_help import TEXTS, ask, logits_of, plan, steer, tiny_library, tiny_loaded
from tiny_models import ARCHITECTURES

from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.local import EngineClosed, LocalEngine
from steergraph.engine.protocol import Request, Sampling, Span
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.kl import kl_by_token
from steergraph.engine.steering.records import Steering

PROMPT, ANSWER = [1, 40, 41, 42, 43, 44, 45], [7, 77, 177, 27, 90, 14, 8]


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        yield engine


def by_definition(loaded: LoadedModel, prompt: list[int], answer: list[int], steering: Steering) -> list[float]:
    """Sum of p (log p - log q) in float64, from two separate forwards."""
    sides = [logits_of(loaded, [(prompt, answer, one)])[0].double() for one in (steering, None)]
    steered, plain = (side.log_softmax(dim=-1) for side in sides)
    total: list[float] = (steered.exp() * (steered - plain)).sum(dim=-1).tolist()
    return total


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("columns", [2, 256])
def test_it_is_what_the_definition_says(architecture: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steergraph.engine.steering.kl.COLUMNS", columns)
    loaded = tiny_loaded(architecture)
    for steering in (steer(), steer(positions="generated"), steer(operation="ablate")):
        hooks = SteeringHooks(loaded.model)
        found = kl_by_token(loaded, hooks, PROMPT, ANSWER, plan(steering, loaded))
        assert found.tolist() == pytest.approx(by_definition(loaded, PROMPT, ANSWER, steering), abs=1e-4)
        assert found.max() > 1e-3


def test_a_receipt_gives_mean_and_p95_over_the_generated_tokens(engine: LocalEngine) -> None:
    request = ask(tokens=9, steering=steer(alpha=3.0), measure_kl=True)
    (completion,) = engine.generate([request])
    (plain,) = engine.generate([ask(tokens=9, steering=steer(alpha=3.0))])
    assert plain.receipt is not None and plain.receipt.kl is None
    assert completion.token_ids == plain.token_ids
    assert completion.receipt is not None and completion.receipt.kl is not None
    spent = completion.receipt.kl
    prompt = engine._chat.prompt(request.messages or ())
    expected = torch.tensor(by_definition(engine.loaded, prompt, list(completion.token_ids), steer(alpha=3.0)))
    assert spent.tokens == len(completion.token_ids) == len(expected)
    assert spent.mean == pytest.approx(expected.mean().item(), abs=1e-4)
    assert spent.p95 == pytest.approx(expected.quantile(0.95).item(), abs=1e-4)
    assert completion.receipt.model_copy(update={"kl": None}) == plain.receipt


def test_more_dose_spends_more_and_none_spends_nothing(engine: LocalEngine) -> None:
    spent = []
    for alpha in (0.0, 1.0, 16.0):
        (completion,) = engine.generate([ask(tokens=4, steering=steer(alpha=alpha), measure_kl=True)])
        assert completion.receipt is not None and completion.receipt.kl is not None
        spent.append(completion.receipt.kl.mean)
    assert spent[0] == 0.0 < spent[1] < spent[2]
    (unsteered,) = engine.generate([ask(tokens=4, measure_kl=True)])
    assert unsteered.receipt is None


def test_it_is_steered_where_the_answer_was(engine: LocalEngine) -> None:
    """Inside a suspended span neither side is steered; with no cache of a steered prompt both are the same there."""
    (free,) = engine.generate([ask(sampling=Sampling(max_new_tokens=30))])
    opening = free.text[:1]
    steering = steer(positions="generated", alpha=8.0)
    request = ask(tokens=6, steering=steering, suspend=(Span(open=opening, close="never closed"),), measure_kl=True)
    whole = ask(tokens=6, steering=steering, measure_kl=True)
    spans, none = (engine.generate([one])[0].receipt for one in (request, whole))
    assert spans is not None and none is not None and spans.kl is not None and none.kl is not None
    if spans.generated_positions < none.generated_positions:
        assert spans.kl.mean != none.kl.mean


def test_probabilities_of_zero_stay_finite() -> None:
    """softmax().log() would give -inf here."""
    loaded = tiny_loaded()
    hooks = SteeringHooks(loaded.model)
    found = kl_by_token(loaded, hooks, PROMPT, ANSWER, plan(steer(alpha=3000.0), loaded))
    assert bool(found.isfinite().all()) and all(value >= 0 for value in found.tolist())


def test_it_is_measured_beside_running_requests_and_ends_with_the_engine(engine: LocalEngine) -> None:
    requests = [ask(text, tokens=5 + 9 * k, steering=steer(), measure_kl=True) for k, text in enumerate(TEXTS)]
    together = engine.generate(requests)
    for request, completion in zip(requests, together, strict=True):
        (alone,) = engine.generate([request])
        assert completion.receipt is not None and alone.receipt is not None
        assert completion.receipt.kl is not None and alone.receipt.kl is not None
        assert completion.token_ids == alone.token_ids
        assert math.isclose(completion.receipt.kl.mean, alone.receipt.kl.mean, abs_tol=1e-4)
    handle = engine.submit(
        Request(token_ids=(1, 5), steering=steer(), measure_kl=True, sampling=Sampling(max_new_tokens=200))
    )
    engine.close()
    with pytest.raises(EngineClosed):
        handle.result(20)
