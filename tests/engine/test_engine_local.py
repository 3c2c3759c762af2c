"""LocalEngine's life: queueing, streaming, stopping, cancelling, closing, and no leak between concurrent requests."""

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_help import TEXTS, ask, steer, tiny_library, tiny_loaded, tiny_vector
from tiny_models import HIDDEN, LAYERS, WINDOW, tiny_model

from steergraph.base.errors import InputError
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.local import EngineClosed, LocalEngine
from steergraph.engine.protocol import (
    Completion,
    Engine,
    Handle,
    Message,
    Request,
    Sampling,
    ScoreRequest,
    Span,
)
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.library import Library

LONG = Sampling(max_new_tokens=200)
WARM = Sampling(temperature=0.9, top_p=0.95, top_k=50, max_new_tokens=12)


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        yield engine


class Gate:
    """Holds the model's forwards until opened: makes "while it is running" exact, without sleeping."""

    def __init__(self, engine: LocalEngine) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.passed = 0
        self._handle = engine.loaded.model.register_forward_pre_hook(self._wait)

    def _wait(self, *_: Any) -> None:
        self.reached.set()
        assert self.open.wait(20)
        self.passed += 1

    def remove(self) -> None:
        self.open.set()
        self._handle.remove()


@pytest.fixture
def gate(engine: LocalEngine) -> Iterator[Gate]:
    gate = Gate(engine)
    yield gate
    gate.remove()


def test_it_is_an_engine_and_its_handles_are_handles(engine: LocalEngine) -> None:
    as_engine: Engine = engine
    handle: Handle = as_engine.submit(ask(tokens=2))
    assert handle.result(20).usage.completion_tokens <= 2
    assert as_engine.count_tokens([Message(role="user", content=TEXTS[0])]) == handle.result().usage.prompt_tokens


def test_one_batch_serves_requests_with_different_everything(engine: LocalEngine) -> None:
    requests = [
        ask(TEXTS[0], tokens=5),
        ask(TEXTS[1], steering=steer("v", 2), sampling=WARM, seed=3),
        ask(TEXTS[2], steering=steer("w", 0, -4.0, positions="generated"), tokens=9),
        Request(token_ids=(1, 7, 8), sampling=Sampling(max_new_tokens=3)),
    ]
    completions = engine.generate(requests)
    assert engine.counters.batches == 1
    # The first forward gives every row its first token, so the longest row costs as many forwards as it has tokens.
    assert engine.counters.forwards <= 12
    assert [completion.receipt is None for completion in completions] == [True, False, False, True]


def test_same_seed_same_text_in_any_company(engine: LocalEngine) -> None:
    request = ask(TEXTS[0], sampling=WARM, seed=11, steering=steer())
    (alone,) = engine.generate([request])
    company = [ask(text, sampling=WARM, seed=seed) for seed, text in enumerate(TEXTS)]
    together = engine.generate([*company[:2], request, *company[2:]])
    assert together[2].token_ids == alone.token_ids
    others = {engine.generate([ask(sampling=WARM, seed=seed, steering=steer())])[0].text for seed in range(5)}
    assert len(others) > 1


def test_sampling_draws_what_transformers_would_allow() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from steergraph.engine.decode.sampling import probabilities

    torch.manual_seed(0)
    for top_k, top_p, temperature in [(0, 1.0, 0.7), (5, 1.0, 1.0), (0, 0.6, 1.3), (20, 0.9, 0.5), (1, 0.01, 1.0)]:
        logits = torch.randn(1, 100) * 3
        scores = TemperatureLogitsWarper(temperature)(None, logits)
        scores = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
        scores = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
        ours = probabilities(logits[0], Sampling(temperature=temperature, top_p=top_p, top_k=top_k))
        assert torch.allclose(ours, scores.softmax(dim=-1)[0], atol=1e-6)


def test_a_stop_string_ends_the_text_before_it(engine: LocalEngine) -> None:
    (free,) = engine.generate([ask(sampling=LONG)])
    middle = len(free.text) // 2
    stop = free.text[middle : middle + 3]
    handle = engine.submit(ask(sampling=LONG, stop=(stop, "never said")))
    pieces = list(handle.stream())
    completion = handle.result()
    assert completion.finish_reason == "stop"
    assert completion.text == free.text[: free.text.index(stop)] == "".join(pieces)
    assert completion.usage.completion_tokens < free.usage.completion_tokens


def test_the_end_token_ends_an_answer_and_is_not_in_it(engine: LocalEngine) -> None:
    (free,) = engine.generate([ask(tokens=12)])
    loaded = engine.loaded
    ender = free.token_ids[6]
    with LocalEngine(replace(loaded, eos_ids=frozenset({ender}))) as other:
        (ended,) = other.generate([ask(tokens=12)])
    assert ended.finish_reason == "stop"
    assert ended.token_ids == free.token_ids[: free.token_ids.index(ender)]


def test_the_window_ends_an_answer(engine: LocalEngine) -> None:
    prompt = (1, *[40 + index % 50 for index in range(WINDOW - 6)])
    (completion,) = engine.generate([Request(token_ids=prompt, sampling=LONG)])
    assert completion.finish_reason == "length"
    assert completion.usage.prompt_tokens + completion.usage.completion_tokens == WINDOW


def test_a_stream_gives_the_text_as_it_grows(engine: LocalEngine, gate: Gate) -> None:
    handle = engine.submit(ask(tokens=12))
    stream = handle.stream()
    gate.open.set()
    first = next(stream)
    assert first and first + "".join(stream) == handle.result().text
    assert "".join(handle.stream()) == handle.result().text


def test_cancelling_frees_the_row_and_spares_the_others(engine: LocalEngine, gate: Gate) -> None:
    requests = [ask(text, sampling=LONG) for text in TEXTS[:2]]
    handles = [engine.submit(request) for request in requests]
    assert gate.reached.wait(20)
    handles[0].cancel()
    gate.open.set()
    cancelled, other = handles[0].result(20), handles[1].result(60)
    assert cancelled.finish_reason == "cancelled" and cancelled.usage.completion_tokens <= 1
    assert other.finish_reason != "cancelled" and other.usage.completion_tokens > 10


def test_a_queued_request_is_cancelled_while_another_batch_runs(engine: LocalEngine, gate: Gate) -> None:
    running = engine.submit(ask(tokens=2))
    assert gate.reached.wait(20)
    queued = engine.submit(ask(steering=steer()))
    queued.cancel()
    completion = queued.result(20)
    assert completion.finish_reason == "cancelled" and completion.text == "" and not gate.open.is_set()
    assert completion.receipt is not None and completion.receipt.steered_ranges == ()
    gate.open.set()
    assert running.result(20).finish_reason in ("length", "stop")


def test_a_deadline_ends_a_request_with_what_it_has(engine: LocalEngine, gate: Gate) -> None:
    running = engine.submit(ask(sampling=LONG, deadline_s=2.0))
    assert gate.reached.wait(20)
    queued = engine.submit(ask(deadline_s=0.01))
    time.sleep(2.1)
    gate.open.set()
    assert running.result(20).finish_reason == "deadline"
    assert queued.result(20).finish_reason == "deadline" and queued.result().text == ""


async def test_a_handle_is_awaitable_and_cancelling_the_task_cancels_the_row(engine: LocalEngine, gate: Gate) -> None:
    handle = engine.submit(ask(sampling=LONG))
    task = asyncio.ensure_future(_await(handle))
    assert await asyncio.to_thread(gate.reached.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    completion = await asyncio.to_thread(handle.result, 20)
    assert completion.finish_reason == "cancelled"
    assert (await engine.submit(ask(tokens=3))).usage.completion_tokens <= 3


async def _await(handle: Handle) -> object:
    return await handle


def test_closing_answers_everybody_and_takes_the_hooks_off() -> None:
    loaded = tiny_loaded()
    engine = LocalEngine(loaded, max_batch=1)
    gate = Gate(engine)
    running, queued = engine.submit(ask(sampling=LONG)), engine.submit(ask())
    assert gate.reached.wait(20)
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(EngineClosed):
        queued.result(20)
    gate.remove()
    closing.join(20)
    assert not closing.is_alive()
    with pytest.raises(EngineClosed):
        running.result(20)
    with pytest.raises(EngineClosed):
        list(running.stream())
    with pytest.raises(EngineClosed):
        engine.submit(ask())
    engine.close()
    assert not any(layer._forward_hooks for layer in decoder_layers(loaded.model))


def test_one_failing_request_fails_alone_and_the_engine_goes_on(engine: LocalEngine) -> None:
    """A forward that refuses one row's token fails the batch; tried alone, only that row fails."""

    def refuse(_module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        if (options["input_ids"] == 99).any():
            raise RuntimeError("token 99 is out of order")

    handle = engine.loaded.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        good = [Request(token_ids=(1, 50 + n), sampling=Sampling(max_new_tokens=1)) for n in range(3)]
        bad = Request(token_ids=(1, 99), sampling=Sampling(max_new_tokens=1))
        jobs = [engine.submit(request) for request in (good[0], bad, *good[1:])]
        with pytest.raises(RuntimeError, match="token 99"):
            jobs[1].result(20)
        assert all(jobs[n].result(20).usage.completion_tokens <= 1 for n in (0, 2, 3))
        with pytest.raises(RuntimeError, match="token 99"):
            engine.score([ScoreRequest(token_ids=(1, 99), continuation=(5, 6))])
    finally:
        handle.remove()
    assert engine.generate([ask(tokens=2)])


def test_concurrent_threads_equal_their_solo_runs() -> None:
    """Steered and unsteered, sampled and greedy, generated and scored: nothing leaks from one to another."""
    loaded = tiny_loaded()
    mixed: list[Request | ScoreRequest] = []
    for seed in range(18):
        steering = [None, steer("v", seed % LAYERS), steer("w", 1, -9.0, positions="generated")][seed % 3]
        mixed.append(
            ask(
                TEXTS[seed % 4],
                steering=steering,
                seed=seed,
                sampling=WARM if seed % 2 else Sampling(max_new_tokens=10),
            )
        )
        mixed.append(ScoreRequest(token_ids=(1, 60 + seed), continuation=(9, 10, 11), steering=steering))
    with LocalEngine(loaded, tiny_library(loaded.info), deterministic=True) as engine:

        def run(request: Request | ScoreRequest) -> Any:
            if isinstance(request, ScoreRequest):
                return engine.score([request])[0]
            completion = engine.submit(request).result(60)
            return completion.token_ids, completion.text, completion.finish_reason, completion.receipt

        solo = [run(request) for request in mixed]
        found: dict[int, Any] = {}

        def work(numbers: list[int]) -> None:
            for number in numbers:
                found[number] = run(mixed[number])

        numbers = list(range(len(mixed)))
        random.Random(0).shuffle(numbers)
        threads = [threading.Thread(target=work, args=(numbers[start::4],)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert [found[number] for number in range(len(mixed))] == solo


def test_scores_are_the_log_probabilities_of_a_plain_forward(engine: LocalEngine) -> None:
    prompt, continuation = [1, 60, 61, 62], [9, 10, 11]
    scores = engine.score(
        [
            ScoreRequest(token_ids=tuple(prompt), continuation=tuple(continuation)),
            ScoreRequest(token_ids=(1, *range(50, 70)), continuation=(5,), steering=steer(positions="generated")),
        ]
    )
    with torch.no_grad():
        logprobs = engine.loaded.model(torch.tensor([prompt + continuation])).logits[0].log_softmax(dim=-1)
    expected = [float(logprobs[len(prompt) - 1 + k, token]) for k, token in enumerate(continuation)]
    assert scores[0].logprobs == pytest.approx(expected, abs=1e-4)
    assert scores[0].total == pytest.approx(sum(expected), abs=1e-3) and scores[0].receipt is None
    assert scores[1].receipt is not None and scores[1].receipt.steered_ranges == ((20, 21),)
    words = engine.score([ScoreRequest(messages=(Message(role="user", content="x"),), continuation="the cause")])
    assert words[0].token_ids == tuple(engine.loaded.tokenizer("the cause", add_special_tokens=False)["input_ids"])


def test_receipts_say_where_and_how_much(engine: LocalEngine) -> None:
    for positions, first in (("all", 0), ("generated", -1)):
        (completion,) = engine.generate([ask(tokens=6, steering=steer(alpha=-8.0, positions=positions))])
        receipt, prompt = completion.receipt, completion.usage.prompt_tokens
        assert receipt is not None and len(completion.token_ids) == 6
        start = first % prompt
        # The last generated token never went through the model.
        assert receipt.steered_ranges == ((start, prompt + 5),)
        assert receipt.prompt_positions == prompt - start and receipt.generated_positions == 6
        (component,) = receipt.components
        assert component.vector_hash == engine.library["v"].hash
        assert component.relative_dose == pytest.approx(8.0 / 4.0)
    (off,) = engine.generate([ask(tokens=6, steering=steer(alpha=0.0))])
    assert off.receipt is not None and off.receipt.steered_ranges == () and off.receipt.generated_positions == 0
    assert off.token_ids == engine.generate([ask(tokens=6)])[0].token_ids


def test_spans_suspend_steering_between_their_marks(engine: LocalEngine) -> None:
    def word(completion: Completion, start: int) -> tuple[int, str]:
        """(number, text) of the first generated token from `start` on that is a word not said since `start`."""
        texts = [engine.loaded.tokenizer.decode([token]) for token in completion.token_ids]
        return next(
            (k, text)
            for k, text in enumerate(texts)
            if k >= start and text.isascii() and len(text) > 1 and text not in "".join(texts[start:k])
        )

    request = ask(tokens=60, steering=steer(alpha=3.0))
    (free,) = engine.generate([request])
    prompt = free.usage.prompt_tokens
    opened, opening = word(free, 0)
    (inside,) = engine.generate([request.model_copy(update={"suspend": (Span(open=opening, close="never said"),)})])
    # The token that completes the opening is produced steered; its own position is not edited any more.
    assert inside.receipt is not None
    assert inside.receipt.steered_ranges == ((0, prompt + opened),)
    assert inside.receipt.generated_positions == opened + 1
    assert inside.token_ids[: opened + 1] == free.token_ids[: opened + 1]
    assert inside.token_ids != free.token_ids

    closed, closing = word(inside, opened + 1)
    (both,) = engine.generate([request.model_copy(update={"suspend": (Span(open=opening, close=closing),)})])
    # The token that completes the closing is produced unsteered; its own position is edited again.
    assert both.receipt is not None
    assert both.receipt.steered_ranges[0] == (0, prompt + opened)
    assert both.receipt.steered_ranges[1][0] == prompt + closed
    assert both.token_ids[: closed + 1] == inside.token_ids[: closed + 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steering": steer("vv")}, "no vector called 'vv'; nearest: v"),
        ({"steering": steer(alpha=-1e300)}, "alpha -1e+300 is beyond any model's numbers"),
        ({"steering": steer(layer=LAYERS)}, f"layer {LAYERS} is out of range, tiny-qwen3 has layers 0 to {LAYERS - 1}"),
        ({"steering": steer("wide")}, "width 64, tiny-qwen3 has width 32"),
        ({"steering": steer("foreign")}, "made for other/model"),
        ({"steering": steer("stale")}, "extract it anew"),
        ({"steering": steer("nan")}, "NaN or infinite"),
        ({"steering": steer("zero")}, "is zero"),
        ({"steering": steer("sparse")}, "no direction at layer 1, only at 3"),
        ({"token_ids": (1, 100_000), "messages": None}, "token id 100000"),
        ({"token_ids": (5,) * WINDOW, "messages": None}, f"{WINDOW} tokens, which with 1 more does not fit the window"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_at_once_in_one_line(
    engine: LocalEngine, change: dict[str, Any], words: str
) -> None:
    info = engine.info
    ones = torch.ones(HIDDEN)
    engine.add_vectors(
        {
            "wide": tiny_vector(info.model_copy(update={"hidden_size": 64}), "wide"),
            "foreign": tiny_vector(info, "foreign", model="other/model", revision="1"),
            "stale": tiny_vector(info, "stale", revision="f" * 16),
            "nan": tiny_vector(info, "nan", directions={1: ones * float("nan")}),
            "zero": tiny_vector(info, "zero", directions={1: ones * 0}),
            "sparse": tiny_vector(info, "sparse", directions={3: ones}),
        }
    )
    request = ask().model_copy(update=change)
    with pytest.raises(SteeringError if "steering" in change else InputError) as caught:
        engine.submit(request)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError):
        engine.generate([ask(), request])
    assert engine.counters.batches == 0


def test_a_library_may_grow_and_a_lone_median_is_measured(engine: LocalEngine) -> None:
    mine = Library({"mine": tiny_vector(engine.info, "mine", median_residual_norms={})})
    engine.library = mine
    assert engine.library is mine
    engine.add_vectors({"more": tiny_vector(engine.info, "more")})
    assert set(engine.library) == {"mine", "more"}
    (completion,) = engine.generate([ask(tokens=2, steering=steer("mine", alpha=0.5, unit="residual"))])
    assert completion.receipt is not None
    assert completion.receipt.components[0].relative_dose == pytest.approx(0.5, rel=1e-4)


def test_components_at_one_layer_are_their_sum(engine: LocalEngine) -> None:
    v, w = engine.library["v"], engine.library["w"]
    total = {layer: 4 * v.directions[layer] / 3 - 2 * w.directions[layer] / 3 for layer in range(LAYERS)}
    engine.add_vectors({"sum": tiny_vector(engine.info, "sum", directions=total)})
    parts = Steering(components=(Component(vector="v", layer=1, alpha=4.0), Component(vector="w", layer=1, alpha=-2.0)))
    whole = steer("sum", 1, 1.0, unit="raw")
    one, other = engine.score(
        [ScoreRequest(token_ids=(1, 60, 61), continuation=(9, 10, 11), steering=s) for s in (parts, whole)]
    )
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_the_worker_ends_when_idle_and_starts_again(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steergraph.engine.local.IDLE_SECONDS", 0.01)
    engine.generate([ask(tokens=1)])
    worker = engine._worker
    if worker is not None:
        worker.join(20)
    assert engine._worker is None
    assert engine.generate([ask(tokens=1)])


def test_a_script_that_forgets_to_close_ends_well() -> None:
    code = (
        "import sys\n"
        "from steergraph import LocalEngine, Message, Request, Sampling\n"
        "engine = LocalEngine(sys.argv[1])\n"
        "ask = Message(role='user', content='hi')\n"
        "engine.submit(Request(messages=(ask,), sampling=Sampling(max_new_tokens=150)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_model("qwen3"))], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
