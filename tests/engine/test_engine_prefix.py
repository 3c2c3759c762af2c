"""Prompts that begin alike: what is reused is what would have been computed, and nobody spoils it for the next."""

from collections.abc import Sequence

import pytest
import torch
from engine_help import logits_of, plan, steer, tiny_library, tiny_loaded
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, OTHER_LAYOUTS

from steergraph.base.errors import InputError
from steergraph.engine.cache.kv_cache import size_of
from steergraph.engine.cache.prefix_cache import NO_MATCH, Prefix, PrefixCache, common_length, prefix_of
from steergraph.engine.local import CHUNK, LocalEngine
from steergraph.engine.protocol import Completion, Request, Sampling
from steergraph.engine.steering.records import Component, Steering

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
COMMON = tuple(3 + (7 * k) % 380 for k in range(40))
ENDS = ((5, 77, 177), (9,), (200, 5, 120, 64, 300, 12), (31, 32))


def request(prompt: Sequence[int], steering: Steering | None = None, tokens: int = 8, **fields: object) -> Request:
    return Request.model_validate(
        {
            "token_ids": tuple(prompt),
            "steering": steering,
            "sampling": Sampling(max_new_tokens=tokens),
            **fields,
        }
    )


def worst(engine: LocalEngine, asked: Request, completion: Completion) -> float:
    """How far each chosen token is from being the likeliest in one forward over prompt and answer."""
    ids = list(completion.token_ids) + ([2] if completion.finish_reason == "stop" else [])
    (logits,) = logits_of(engine.loaded, [(list(asked.token_ids or ()), ids, asked.steering)])
    chosen = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
    return float((logits.max(dim=-1).values - chosen).max())


@EVERY
@pytest.mark.parametrize("positions", ["generated", "all", (20, 30)], ids=["generated", "all", "range"])
def test_a_reused_prompt_gives_the_logits_of_a_computed_one(architecture: str, positions: object) -> None:
    loaded = tiny_loaded(architecture)
    specialists = [steer(name, 1, positions=positions) for name in "vwu"]
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        seen = 0
        for end in ENDS:
            asked = [request(COMMON + end, steering) for steering in (None, *specialists)]
            for one, completion in zip(asked, engine.generate(asked), strict=True):
                assert worst(engine, one, completion) < 1e-4
                seen += completion.usage.cached_tokens
        # Steered from the first token on, a prompt helps only those that are steered in the same way.
        least = {"generated": 12 * 36, "all": 9 * 36, (20, 30): 3 * 36 + 9 * 18}[positions]  # type: ignore[index]
        assert seen >= least


@EVERY
def test_where_rows_run_alone_reuse_changes_no_token(architecture: str) -> None:
    """Not even a bit: a known prompt begins where a forward would have."""
    loaded = tiny_loaded(architecture)
    base = tuple(3 + (11 * k) % 380 for k in range(2 * CHUNK + 9))
    asked = [
        request(base + end, steering, tokens=12, seed=seed)
        for seed, end in enumerate(ENDS)
        for steering in (None, steer("v", 1, positions="generated"), steer("w", 2))
    ]
    with LocalEngine(loaded, tiny_library(loaded.info), deterministic=True, prefix_bytes=0) as engine:
        computed = engine.generate(asked)
    with LocalEngine(loaded, tiny_library(loaded.info), deterministic=True) as engine:
        reused = engine.generate(asked)
        before = {prompt: [part.clone() for part in parts] for prompt, parts in _entries(engine).items()}
        again = engine.generate(asked)
        after = _entries(engine)
    assert before.keys() == after.keys() and len(before) == 6  # three ends: unsteered, and steered from the first token
    for prompt, parts in before.items():
        assert all(torch.equal(one, other) for one, other in zip(parts, after[prompt], strict=True))
    assert [c.token_ids for c in computed] == [c.token_ids for c in reused] == [c.token_ids for c in again]
    assert [c.receipt for c in computed] == [c.receipt for c in reused] == [c.receipt for c in again]
    assert {c.usage.cached_tokens for c in computed} == {0}
    assert [c.usage.cached_tokens for c in again] == [2 * CHUNK] * len(asked)


def _entries(engine: LocalEngine) -> dict[Prefix, list[torch.Tensor]]:
    cached = engine._decoder._prefixes._states
    return {prefix: [part for states in layers for part in states] for prefix, layers in cached.items()}


@EVERY
def test_kept_states_are_those_of_the_prompt_alone(architecture: str) -> None:
    """Rows of a batch are padded, and their neighbours steered; what is kept of each has neither in it."""
    loaded = tiny_loaded(architecture)
    prompts = [COMMON, COMMON[::-1][:25], COMMON[3:20]]
    plans = [None, steer("v", 1), steer("w", 0, positions="generated")]
    asked = [request(prompt, steering, tokens=3) for prompt, steering in zip(prompts, plans, strict=True)]
    kept = []
    for grouped in (True, False):
        with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
            for group in [asked] if grouped else [[one] for one in asked]:
                engine.generate(group)
            kept.append(_entries(engine))
    assert kept[0].keys() == kept[1].keys() and len(kept[0]) == 3
    for prompt, parts in kept[0].items():
        for together, alone in zip(parts, kept[1][prompt], strict=True):
            assert together.shape == alone.shape and torch.allclose(together, alone, atol=1e-4)


def test_of_requests_that_begin_alike_the_first_computes_it_for_all() -> None:
    loaded = tiny_loaded()
    long = tuple(3 + (13 * k) % 380 for k in range(150))
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        asked = [request(long + end, steer(name, 1, positions="generated")) for end in ENDS for name in "vwu"]
        done = engine.generate(asked)
    cached = [completion.usage.cached_tokens for completion in done]
    assert cached[0] == 0 and min(cached[1:]) >= 140
    assert engine.counters.batches == 2


def test_the_unsteered_part_of_a_prompt_serves_everybody() -> None:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        engine.generate([request(COMMON)])
        for positions, known in ((("generated"), 39), ((25, None), 25), ((-5, None), 35), ((0, 4), 0), ("all", 0)):
            (done,) = engine.generate([request(COMMON, steer("w", 1, positions=positions))])
            assert done.usage.cached_tokens == known, positions
        # What was steered is found again under the same steering, and under no other.
        (again,) = engine.generate([request(COMMON, steer("w", 1))])
        (other,) = engine.generate([request(COMMON, steer("w", 1, 8.5))])
        assert (again.usage.cached_tokens, other.usage.cached_tokens) == (39, 0)
        (receipt,) = [again.receipt]
        assert receipt is not None and receipt.steered_ranges[0][0] == 0 and receipt.prompt_positions == len(COMMON)


def test_nothing_is_kept_beyond_the_limit_and_the_least_used_goes() -> None:
    loaded = tiny_loaded()
    with LocalEngine(loaded) as engine:
        engine.generate([request(COMMON)])
        one = engine._decoder._prefixes.size
    with LocalEngine(loaded, prefix_bytes=2 * one) as engine:
        store = engine._decoder._prefixes
        first, second, third = (tuple((k * step + 5) % 390 for k in range(40)) for step in (7, 11, 13))
        for prompt in (first, second, first, third):
            engine.generate([request(prompt)])
        assert len(store) == 2 and store.size == 2 * one
        known = [engine.generate([request(prompt)])[0].usage.cached_tokens for prompt in (first, second)]
        assert known == [39, 0]
        engine.generate([request(tuple((k * 17 + 5) % 390 for k in range(90)))])  # more than all there is
        assert store.size <= 2 * one
    with pytest.raises(InputError, match="prefix_bytes -1"):
        LocalEngine(loaded, prefix_bytes=-1)


def test_a_prompt_that_goes_on_replaces_its_beginning() -> None:
    store = PrefixCache(10_000)
    states = lambda tokens: lambda: [(torch.zeros(1, 1, tokens, 2),)]  # noqa: E731
    store.put(Prefix(tuple(range(10)), "", 10), states(10))
    store.put(Prefix(tuple(range(20)), "", 20), states(20))
    store.put(Prefix(tuple(range(15)), "", 15), states(15))
    store.put(Prefix(tuple(range(15)), "steered", 0), states(15))
    assert len(store) == 2 and store.size == size_of([(torch.zeros(35, 2),)])
    assert store.find(Prefix(tuple(range(30)), "", 30)).tokens == 20
    assert store.find(Prefix((*range(12), 99), "", 13)).tokens == 12
    assert store.find(Prefix((*range(12), 99), "otherwise", 9)).tokens == 9
    assert store.find(Prefix((*range(12), 99), "otherwise", 5)) == NO_MATCH
    assert store.find(Prefix((*range(12), 99), "steered", 0)).tokens == 12


@pytest.mark.parametrize("positions", ["all", "generated", (3, None), (0, -2), (2, 5)])
def test_how_a_prompt_is_steered_is_said_of_its_positions_not_its_length(positions: object) -> None:
    """Two prompts that begin alike are keyed alike where the same is done to their beginnings."""
    loaded = tiny_loaded()
    short, long = (prefix_of(COMMON[:size], plan(steer(positions=positions), loaded)) for size in (20, 40))
    if positions in ("all", "generated", (3, None), (2, 5)):
        assert short.steered == long.steered
    both = Steering(
        components=(
            Component(vector="v", layer=1, alpha=1.0, positions=positions),
            Component(vector="w", layer=1, alpha=1.0, positions="generated"),
        )
    )
    mixed = prefix_of(COMMON, plan(both, loaded))
    alone = prefix_of(COMMON, plan(steer(alpha=1.0, positions=positions), loaded))
    assert mixed == alone


@given(st.lists(st.integers(0, 1), max_size=12), st.lists(st.integers(0, 1), max_size=12))
def test_common_counts_the_equal_tokens_at_the_beginning(one: list[int], other: list[int]) -> None:
    count = common_length(one, other)
    assert one[:count] == other[:count]
    assert one[count : count + 1] != other[count : count + 1] or count == min(len(one), len(other))
