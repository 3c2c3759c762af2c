"""Rows that join and leave a running batch: nothing leaks, nothing is lost, nobody pays for another's failure."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from engine_help import TEXTS, ask, logits_of, steer, tiny_library, tiny_loaded
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, LAYERS, OTHER_LAYOUTS

from steergraph.engine.cache.kv_cache import layout_of
from steergraph.engine.decode.samples import Sample
from steergraph.engine.decode.scheduler import MAX_COLUMNS, MAX_NEW_TOKENS, SMALL, choose
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Completion, Request, Sampling, Span
from steergraph.engine.steering.records import Steering

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)


@contextmanager
def before_forward(engine: LocalEngine, act: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """`act(number, ids)` before each of the model's forwards, in the worker's thread."""
    numbers = iter(range(10**6))
    handle = engine.loaded.model.register_forward_pre_hook(
        lambda module, arguments, options: act(next(numbers), options["input_ids"]), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


def drawn(rng: random.Random, seed: int) -> Request:
    """A request with anything in it."""
    steering: list[Steering | None] = [
        None,
        steer(rng.choice("vwu"), rng.randrange(LAYERS), rng.choice([-9.0, 4.0, 8.0])),
        steer(rng.choice("vwu"), rng.randrange(LAYERS), 8.0, positions="generated"),
        steer(rng.choice("vwu"), rng.randrange(LAYERS), 8.0, positions=(3, -2)),
        steer(rng.choice("vwu"), rng.randrange(LAYERS), 8.0, operation="ablate"),
    ]
    beginning = [(1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50), (1,)][rng.randrange(2)]
    prompt = (*beginning, *(rng.randrange(3, 390) for _ in range(rng.randrange(1, 60))))
    warm = Sampling(temperature=0.9, top_p=0.95, top_k=50, max_new_tokens=rng.randrange(1, 20))
    cold = Sampling(max_new_tokens=rng.randrange(1, 20))
    suspend = (Span(open="a", close="e"),) if rng.random() < 0.2 else ()
    return Request(
        token_ids=prompt,
        steering=rng.choice(steering),
        sampling=rng.choice([cold, cold, warm]),
        seed=seed,
        suspend=suspend,
    )


def check_solo(engine: LocalEngine, request: Request, completion: Completion) -> None:
    """The answer against its own row, alone, without a cache: every greedy token is the likeliest, within 1e-4."""
    ids = list(completion.token_ids) + ([2] if completion.finish_reason == "stop" else [])
    assert ids and completion.finish_reason in ("stop", "length")
    if request.sampling.temperature or request.suspend:
        return  # seeds and spans: compared token by token, where rows run alone
    (logits,) = logits_of(engine.loaded, [(list(request.token_ids or ()), ids, request.steering)])
    chosen = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
    assert (logits.max(dim=-1).values - chosen).max() < 1e-4


def all_at_once(engine: LocalEngine, requests: list[Request], threads: int) -> list[Completion]:
    """Half of them from threads, half as coroutines of one loop."""
    found: dict[int, Completion] = {}

    def work(start: int) -> None:
        for number in range(start, len(requests) // 2, threads):
            found[number] = engine.submit(requests[number]).result(300)

    async def one(number: int) -> None:
        found[number] = await engine.submit(requests[number])

    async def rest() -> None:
        await asyncio.gather(*(one(number) for number in range(len(requests) // 2, len(requests))))

    workers = [threading.Thread(target=work, args=(start,)) for start in range(threads)]
    for worker in workers:
        worker.start()
    asyncio.run(rest())
    for worker in workers:
        worker.join(300)
    return [found[number] for number in range(len(requests))]


def stress(architecture: str, count: int, max_batch: int) -> None:
    loaded, rng = tiny_loaded(architecture), random.Random(count)
    requests = [drawn(rng, seed) for seed in range(count)]
    with LocalEngine(loaded, tiny_library(loaded.info), max_batch=max_batch, prefix_bytes=200_000) as engine:
        together = all_at_once(engine, requests, threads=4)
        assert engine.counters.samples >= count
        for request, completion in zip(requests, together, strict=True):
            check_solo(engine, request, completion)
    with LocalEngine(loaded, tiny_library(loaded.info), deterministic=True) as engine:
        crowd = all_at_once(engine, requests, threads=4)
        solo = [engine.generate([request])[0] for request in requests]
    for one, other, batched in zip(crowd, solo, together, strict=True):
        assert (one.token_ids, one.text, one.receipt) == (other.token_ids, other.text, other.receipt)
        # One seed, one text, in any company: rounding could tell them apart at a near tie, which these have not.
        assert batched.token_ids == one.token_ids and batched.receipt == one.receipt


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "lfm2"])
def test_nothing_leaks_between_concurrent_requests(architecture: str) -> None:
    stress(architecture, count=14, max_batch=5)


@pytest.mark.slow
@EVERY
def test_nothing_leaks_between_hundreds_of_concurrent_requests(architecture: str) -> None:
    stress(architecture, count=300, max_batch=24)


@EVERY
def test_a_row_joins_a_running_batch(architecture: str) -> None:
    """The long row is in its tenth token when others come, longer and shorter; one step later they run together."""
    loaded = tiny_loaded(architecture)
    first = Request(token_ids=(1, 90, 91, 92), steering=steer(), sampling=Sampling(max_new_tokens=40))
    late = [
        Request(token_ids=tuple(range(30, 75)), sampling=Sampling(max_new_tokens=12)),
        Request(token_ids=(1, 17), steering=steer("w", 2, positions="generated"), sampling=Sampling(max_new_tokens=9)),
    ]
    handles: list[Any] = []
    shapes: list[tuple[int, int]] = []
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:

        def act(number: int, ids: torch.Tensor) -> None:
            shapes.append((ids.shape[0], ids.shape[1]))
            if number == 10:
                handles.extend(engine.submit(request) for request in late)

        with before_forward(engine, act):
            done = [engine.generate([first])[0], *(handle.result(60) for handle in handles)]
        for request, completion in zip([first, *late], done, strict=True):
            check_solo(engine, request, completion)
    assert [rows for rows, _ in shapes[:11]] == [1] * 11
    assert max(rows for rows, columns in shapes if columns == 1) == 3
    # Nobody waited for the first to end, and those that ended left.
    assert shapes[-1] == (1, 1) and len(shapes) <= 40 + 2


def test_a_cancelled_row_costs_nothing_from_the_next_step_on() -> None:
    loaded = tiny_loaded()
    rows: list[int] = []
    with LocalEngine(loaded) as engine:
        with engine.loaded.lock:
            handles = [engine.submit(ask(text, sampling=Sampling(max_new_tokens=60))) for text in TEXTS[:3]]

        def act(number: int, ids: torch.Tensor) -> None:
            rows.append(ids.shape[0])
            if number == 5:
                handles[1].cancel()

        with before_forward(engine, act):
            done = [handle.result(60) for handle in handles]
    assert done[1].finish_reason == "cancelled" and done[1].usage.completion_tokens <= 6
    assert 3 in rows[:6] and 3 not in rows[6:]


@EVERY
def test_a_batch_that_runs_out_of_memory_is_halved_and_goes_on(architecture: str) -> None:
    """More than two rows do not fit. Every answer is as if they did: what was generated is not generated again."""
    loaded = tiny_loaded(architecture)
    rng = random.Random(7)
    requests = [drawn(rng, seed).model_copy(update={"suspend": (Span(open="a", close="e"),)}) for seed in range(6)]
    with LocalEngine(loaded, tiny_library(loaded.info), prefix_bytes=0) as engine:
        expected = engine.generate(requests)
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        failures: list[int] = []

        def act(number: int, ids: torch.Tensor) -> None:
            if ids.shape[0] > 2 and (number > 3 or ids.shape[1] > 1):
                failures.append(number)
                raise torch.OutOfMemoryError("CUDA out of memory")

        with before_forward(engine, act):
            handles = [engine.submit(request) for request in requests]
            streamed = ["".join(handle.stream()) for handle in handles]
            done = [handle.result(60) for handle in handles]
    assert failures
    assert [c.token_ids for c in done] == [c.token_ids for c in expected]
    assert [c.receipt for c in done] == [c.receipt for c in expected]
    assert all(c.text == text for c, text in zip(done, streamed, strict=True) if "<think>" not in text)


def test_memory_that_never_suffices_fails_the_row_and_no_other() -> None:
    loaded = tiny_loaded()
    with LocalEngine(loaded) as engine:

        def act(number: int, ids: torch.Tensor) -> None:
            if (ids == 99).any():
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

        with before_forward(engine, act):
            handles = [
                engine.submit(Request(token_ids=prompt, sampling=Sampling(max_new_tokens=20)))
                for prompt in [(1, 40, 41), (1, 99, 41), (1, 50, 41)]
            ]
            with pytest.raises(RuntimeError, match="allocate memory"):
                handles[1].result(60)
            assert all(handles[n].result(60).usage.completion_tokens for n in (0, 2))
        assert engine.generate([Request(token_ids=(1, 99, 41), sampling=Sampling(max_new_tokens=2))])


def test_a_row_that_breaks_the_batch_in_the_middle_fails_alone() -> None:
    """Its own forward is well until its sixth token; the others are taken along once, and then go on."""
    loaded = replace(tiny_loaded(), eos_ids=frozenset())
    requests = [ask(text, tokens=20) for text in TEXTS]
    with LocalEngine(loaded) as engine:
        expected = engine.generate(requests)
        poison = expected[2].token_ids[5]
        spared = [k for k in (0, 1, 3) if poison not in expected[k].token_ids]
        assert spared

        def act(number: int, ids: torch.Tensor) -> None:
            if (ids[:, -1] == poison).any():
                raise ValueError("this token is cursed")

        with before_forward(engine, act):
            handles = [engine.submit(request) for request in requests]
            with pytest.raises(ValueError, match="cursed"):
                handles[2].result(60)
            for k in spared:
                assert handles[k].result(60).token_ids == expected[k].token_ids


def test_a_model_whose_memory_is_not_known_runs_one_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_loaded()
    requests = [ask(text, tokens=8, steering=steer()) for text in TEXTS]
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        expected = engine.generate(requests)
    monkeypatch.setattr("steergraph.engine.decode.decoder.layout_of", lambda cache: None)
    rows: list[int] = []
    with (
        LocalEngine(loaded, tiny_library(loaded.info)) as engine,
        before_forward(engine, lambda number, ids: rows.append(ids.shape[0])),
    ):
        done = engine.generate(requests)
    assert [c.token_ids for c in done] == [c.token_ids for c in expected]
    assert set(rows) == {1} and {c.usage.cached_tokens for c in done} == {0}


def test_caches_that_are_not_known_are_seen_to_be() -> None:
    from transformers.cache_utils import DynamicCache, LinearAttentionLayer, StaticCache

    loaded = tiny_loaded()
    recurrent = DynamicCache()
    recurrent.layers = [LinearAttentionLayer()]
    recurrent.layers[0].update_conv_state(torch.zeros(1, 4, 3))
    assert layout_of(recurrent) is not None
    recurrent.layers[0].update_recurrent_state(torch.zeros(1, 4, 3))
    for cache in (None, recurrent, DynamicCache(), StaticCache(config=loaded.model.config, max_cache_len=8)):
        assert layout_of(cache) is None


@dataclass
class Waiting:
    length: int
    known: int = 0
    like: int = 0


class Batch:
    def __init__(self, rows: list[Waiting], free: int) -> None:
        self.samples, self.free = cast(list[Sample], rows), free

    def known(self, row: Any) -> int:
        return int(row.known)

    def known_after(self, row: Any, other: Any) -> int:
        return min(row.length, other.length) - 1 if row.like and row.like == other.like else 0


def picked(waiting: list[Waiting], running: list[Waiting], free: int = 8) -> list[Waiting]:
    return cast(list[Waiting], choose(cast(list[Sample], waiting), Batch(running, free)))


def test_who_joins() -> None:
    long, short, other = Waiting(4000), Waiting(900), Waiting(1000)
    assert picked([short, long, other], []) == [short, other]  # of similar length
    assert picked([long, short], []) == [long]
    assert picked([Waiting(20), Waiting(90), Waiting(40)], []) == [Waiting(20), Waiting(90), Waiting(40)]  # small
    assert picked([long, short], [Waiting(100)] * 4) == []  # the oldest waits, and nobody passes it
    known = Waiting(4000, known=3990)  # ten tokens go through the model, but its cache is as long as it is
    assert picked([known, Waiting(20), Waiting(20)], []) == [known, Waiting(20)]
    assert picked([known, Waiting(3990)], []) == [known]
    twins = [Waiting(900, like=1), Waiting(910, like=1), Waiting(950)]
    assert picked(twins, []) == [twins[0], twins[2]]  # the second will find the first's prompt
    assert picked(twins, [], free=1) == twins[:1] and picked(twins, [], free=0) == []


@given(
    st.lists(st.builds(Waiting, st.integers(1, 20000), st.integers(0, 300), st.integers(0, 2)), max_size=30),
    st.lists(st.builds(Waiting, st.integers(1, 20000)), max_size=8),
    st.integers(0, 16),
)
def test_what_joins_always_fits(waiting: list[Waiting], running: list[Waiting], free: int) -> None:
    waiting = [row for row in waiting if row.known < row.length]
    chosen = picked(waiting, running, free)
    assert len(chosen) <= free and [row for row in waiting if any(row is one for one in chosen)] == chosen
    if waiting and free and not running:
        assert chosen and chosen[0] is waiting[0]
    if len(chosen) > 1:
        new = [row.length - row.known for row in chosen]
        assert len(new) * max(new) <= max(MAX_NEW_TOKENS, SMALL)
    if chosen and len(chosen) + len(running) > 1:
        lengths = [row.length for row in [*chosen, *running]]
        assert len(lengths) * max(lengths) <= MAX_COLUMNS


def test_a_request_that_ends_with_its_first_token_never_joins() -> None:
    loaded = tiny_loaded()
    with LocalEngine(loaded) as engine:
        before = SimpleNamespace(**vars(engine.counters))
        (done,) = engine.generate([ask(tokens=1)])
        assert done.usage.completion_tokens == 1 and engine.counters.forwards == before.forwards + 1
