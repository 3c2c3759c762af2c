"""Batches drawn at random: any steering in any company does what it does alone, and touches nobody else."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from engine_help import MEDIAN, TEXTS, ask, logits_of, plan, steer, tiny_library, tiny_loaded
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import LAYERS
from torch.utils._python_dispatch import TorchDispatchMode

from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.layers import decoder_layers, hidden_of, replace_hidden
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.local import LocalEngine
from steergraph.engine.steering.hooks import ActiveBatch, SteeringHooks
from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.records import Component, Steering

KINDS = ("qwen3", "llama", "gemma3", "phi3", "lfm2", "mistral", "gpt2", "neox")
TOKENS = st.integers(3, 380)
RANGES = st.sampled_from([(0, 1), (2, 5), (4, None), (-1, None), (-3, None), (-4, -1), (1, -2), (0, 40), (7, 9)])
COMPONENT = st.builds(
    Component,
    vector=st.sampled_from("vwu"),
    layer=st.integers(0, LAYERS - 1),
    alpha=st.sampled_from([-6.0, -1.5, 0.0, 0.5, 4.0]),
    unit=st.sampled_from(["unit_vector", "raw", "residual"]),
    positions=st.one_of(st.sampled_from(["all", "generated"]), RANGES),
    operation=st.sampled_from(["add", "add", "ablate"]),
)
SEVERAL = st.lists(COMPONENT, min_size=1, max_size=3)
STEERING = st.none() | st.builds(lambda several: Steering(components=tuple(several)), SEVERAL)


@dataclass(frozen=True)
class Drawn:
    prompt: list[int]
    answer: list[int]
    steering: Steering | None
    off: tuple[bool, ...]
    """Where in the answer steering is suspended."""


@st.composite
def rows(draw: st.DrawFn) -> list[Drawn]:
    length = draw(st.integers(1, 4))
    drawn = []
    for _ in range(draw(st.integers(1, 4))):
        prompt = [1, *draw(st.lists(TOKENS, min_size=0, max_size=9))]
        answer = draw(st.lists(TOKENS, min_size=length, max_size=length))
        off = tuple(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
        drawn.append(Drawn(prompt, answer, draw(STEERING), off))
    return drawn


@cache
def loaded_of(kind: str) -> LoadedModel:
    return tiny_loaded(kind)


def decoded(kind: str, drawn: list[Drawn], *, steered: bool = True, chunk: int | None = None) -> torch.Tensor:
    """Logits [rows, answer, vocabulary] with a cache: prefill, in chunks or not, then one forced token a step."""
    loaded = loaded_of(kind)
    hooks, forward, cache = SteeringHooks(loaded.model), Forward(loaded), None
    padded = pad_left([row.prompt for row in drawn], loaded.pad_id, loaded.device)
    width, lengths = padded.ids.shape[1], [len(row.prompt) for row in drawn]
    plans = [plan(row.steering, loaded) if steered else SteeringPlan() for row in drawn]
    placed = [one.place(length) for one, length in zip(plans, lengths, strict=True)]
    batch = ActiveBatch(placed, loaded.device, hooks._install)
    hooks._batch = batch  # without the check that something was done: a drawn range may hold no token
    found = []
    with torch.inference_mode():
        for start in range(0, width, chunk or width):
            end = min(width, start + (chunk or width))
            batch.at([start - width + length for length in lengths], end - start)
            ids, places = padded.ids[:, start:end], padded.positions[:, start:end]
            logits, cache = forward(ids, padded.mask[:, :end], places, cache=cache, use_cache=True)
        found.append(logits[:, -1])
        mask = padded.mask
        for step in range(len(drawn[0].answer) - 1):
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            at = [length + step for length in lengths]
            batch.at(at, 1, [not row.off[step] for row in drawn])
            ids = torch.tensor([[row.answer[step]] for row in drawn])
            logits, cache = forward(ids, mask, torch.tensor(at)[:, None], cache=cache, use_cache=True)
            found.append(logits[:, -1])
    hooks.remove()
    return torch.stack(found, dim=1)


def by_definition(kind: str, row: Drawn) -> torch.Tensor:
    """The same logits of one row another way: alone, no cache, no pads, each position edited as the words say."""
    loaded = loaded_of(kind)
    library, tokens, prompt = tiny_library(loaded.info), [*row.prompt, *row.answer[:-1]], len(row.prompt)
    components = row.steering.components if row.steering else ()

    def holds(component: Component, place: int) -> bool:
        if place >= prompt and row.off[place - prompt]:
            return False
        if component.positions == "all":
            return True
        if component.positions == "generated":
            return place >= prompt - 1
        start, end = component.positions
        after = place >= (start + prompt if start < 0 else start)
        return after and (end is None or place < (end + prompt if end < 0 else end))

    def edited(state: torch.Tensor, here: list[Component]) -> torch.Tensor:
        directions = [library[c.vector].directions[c.layer] for c in here]
        removed = {c.vector: d.double() for c, d in zip(here, directions, strict=True) if c.operation == "ablate"}
        if removed:
            basis = torch.linalg.qr(torch.stack(list(removed.values())).T)[0]
            state = (state.double() - basis @ (basis.T @ state.double())).float()
        for component, direction in zip(here, directions, strict=True):
            if component.operation == "add":
                length = {"raw": direction.norm(), "unit_vector": 1.0, "residual": MEDIAN}[component.unit]
                state = state + component.alpha * length * direction / direction.norm()
        return state

    def hook_for(layer: int) -> Any:
        def hook(_module: Any, _arguments: Any, output: Any) -> Any:
            hidden = hidden_of(output).clone()
            for place in range(len(tokens)):
                if here := [c for c in components if c.layer == layer and holds(c, place)]:
                    hidden[0, place] = edited(hidden[0, place], here)
            return replace_hidden(output, hidden)

        return hook

    layers, used = decoder_layers(loaded.model), {component.layer for component in components}
    handles = [layers[index].register_forward_hook(hook_for(index)) for index in used]
    try:
        with torch.no_grad():
            logits: torch.Tensor = loaded.model(torch.tensor([tokens]), use_cache=False).logits
            return logits[0, prompt - 1 :]
    finally:
        for handle in handles:
            handle.remove()


def check_batch(kind: str, drawn: list[Drawn], chunk: int | None) -> None:
    together = decoded(kind, drawn, chunk=chunk)
    without = decoded(kind, drawn, steered=False, chunk=chunk)
    for index, row in enumerate(drawn):
        if row.steering is None:
            assert torch.equal(together[index], without[index])
        assert (together[index] - by_definition(kind, row)).abs().max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(drawn=rows(), chunk=st.sampled_from([None, 1, 3]))
def test_any_batch_does_to_each_row_what_its_steering_says(kind: str, drawn: list[Drawn], chunk: int | None) -> None:
    check_batch(kind, drawn, chunk)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(drawn=rows(), chunk=st.sampled_from([None, 1, 3]))
def test_many_batches_do_what_their_steering_says(kind: str, drawn: list[Drawn], chunk: int | None) -> None:
    check_batch(kind, drawn, chunk)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, deadline=None)
@given(drawn=rows())
def test_without_a_cache_it_is_the_same(kind: str, drawn: list[Drawn]) -> None:
    drawn = [replace(row, off=(False,) * len(row.off)) for row in drawn]
    given_rows = [(row.prompt, row.answer, row.steering) for row in drawn]
    if all(row.steering is None or not plan(row.steering, loaded_of(kind)).edits(1) for row in drawn):
        given_rows = [(prompt, answer, steer()) for prompt, answer, _ in given_rows]
        drawn = [replace(row, steering=steer()) for row in drawn]
    for row, logits in zip(drawn, logits_of(loaded_of(kind), given_rows), strict=True):
        assert (logits - by_definition(kind, row)).abs().max() < 1e-4


class Allocations(TorchDispatchMode):
    """Counts the operations that run, and those whose result is new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.new: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.append(func.__name__)
        given_memory = [t.untyped_storage()._cdata for t in (*args, *(kwargs or {}).values()) if torch.is_tensor(t)]
        for one in result if isinstance(result, tuple | list) else (result,):
            if torch.is_tensor(one) and one.untyped_storage()._cdata not in given_memory:
                self.new.append(func.__name__)
        return result


def counted(steerings: list[Steering | None], width: int, layer: int = 1) -> Allocations:
    """The operations of one call of a layer's hook."""
    loaded = loaded_of("qwen3")
    batch = ActiveBatch([plan(one, loaded).place(width + 3) for one in steerings], loaded.device)
    batch.at([width + 3] * len(steerings) if width == 1 else [0] * len(steerings), width)
    hidden = torch.zeros(len(steerings), width, loaded.info.hidden_size)
    with Allocations() as counter:
        batch.edit(layer, hidden)
    return counter


def test_a_hook_runs_one_addition_and_allocates_nothing() -> None:
    several = Steering(components=(*steer("v").components, *steer("w").components, *steer("u").components))
    assert counted([steer()], 1).names == ["add_.Tensor"]
    assert counted([steer("v"), steer("w", alpha=-2.0), several, None, steer("u")], 1).names == ["add_.Tensor"]
    assert counted([steer(), steer("w"), several], 16).names == ["add_.Tensor"]
    for steerings, width in (([steer(), None, several], 16), ([None, steer()], 1)):
        found = counted(steerings, width)
        assert found.names.count("add_.Tensor") in (1, 2) and not found.new


def test_unsteered_rows_and_layers_run_nothing() -> None:
    assert counted([None, None], 1).names == counted([None], 16).names == []
    assert counted([steer(layer=2), None], 1, layer=1).names == []
    assert counted([steer(alpha=0.0)], 1).names == []
    loaded = loaded_of("qwen3")
    hooks = SteeringHooks(loaded.model)
    with hooks.steering([plan(steer(layer=2), loaded).place(3)], loaded.device) as batch, torch.no_grad():
        batch.at([0], 3)
        assert [bool(layer._forward_hooks) for layer in decoder_layers(loaded.model)] == [False, False, True, False]
        loaded.model(torch.tensor([[1, 5, 6]]))
    assert not any(layer._forward_hooks for layer in decoder_layers(loaded.model))


def test_ablation_in_float32_works_in_buffers_made_beforehand() -> None:
    found = counted([steer(operation="ablate"), steer("w", operation="ablate")], 4)
    assert not found.new and "bmm.out" in found.names


def test_a_step_like_the_last_one_lays_out_nothing_anew() -> None:
    loaded = loaded_of("qwen3")
    batch = ActiveBatch([plan(steer(positions=(0, 12)), loaded).place(8), plan(None, loaded).place(5)], loaded.device)
    batch.at([8, 5], 1)
    first = batch.interventions
    for position in (9, 10, 11):
        batch.at([position, position - 3], 1)
        assert batch.interventions is first
    batch.at([12, 9], 1)
    assert batch.interventions == {}


def test_minus_zero_keeps_every_bit() -> None:
    """The filler of rows that an intervention passes over: x + -0.0 is x for each x, 0.0 + 0.0 would lose a sign."""
    odd = torch.tensor([0.0, -0.0, 1e-42, -1e-42, torch.inf, -torch.inf, 3.4e38, 1.0])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        hidden = odd.to(dtype).expand(1, 1, -1).contiguous()
        kept = hidden.clone()
        kept.add_(torch.full((1, 1, len(odd)), -0.0))
        assert torch.equal(kept.view(torch.uint8), hidden.view(torch.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_with_chunked_prefill_says_the_same(kind: str) -> None:
    loaded = loaded_of(kind)
    steerings = [None, steer(), steer("w", 2, -5.0, positions="generated"), steer("u", 0, 6.0, positions=(4, 20))]
    requests = [ask(text, tokens=6, steering=one) for text, one in zip(TEXTS, steerings, strict=True)]
    widths: list[int] = []
    with LocalEngine(loaded, tiny_library(loaded.info), prefix_bytes=0) as engine:
        whole = engine.generate(requests)
    with LocalEngine(loaded, tiny_library(loaded.info), prefix_bytes=0, prefill_chunk=5) as engine:
        seen = loaded.model.register_forward_pre_hook(
            lambda m, a, k: widths.append(k["input_ids"].shape[1]), with_kwargs=True
        )
        chunked = engine.generate(requests)
        seen.remove()
    assert max(widths) == 5 and widths.count(5) > 1
    for one, other in zip(whole, chunked, strict=True):
        assert one.token_ids == other.token_ids and one.receipt == other.receipt


def test_a_receipt_names_the_range() -> None:
    loaded = loaded_of("qwen3")
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        prompt = engine.count_tokens(ask().messages or ())
        cases = {
            (3, 6): (3, 6),
            (-2, None): (prompt - 2, prompt + 5),
            (prompt + 1, prompt + 3): (prompt + 1, prompt + 3),
        }
        for given_range, expected in cases.items():
            (completion,) = engine.generate([ask(tokens=6, steering=steer(positions=given_range))])
            assert completion.receipt is not None and completion.receipt.steered_ranges == (expected,)
            assert completion.receipt.components[0].positions == given_range
            assert completion.receipt.prompt_positions == max(0, min(expected[1], prompt) - expected[0])
        assert completion.receipt is not None and completion.receipt.generated_positions == 2
    for nothing in ((3, 3), (5, 2), (-1, -2), (2, 0)):
        with pytest.raises(ValueError, match="no token"):
            steer(positions=nothing)
