"""Defects that real steering projects shipped, each as a test that would have caught it.

Each test's number is that of the list below. What concerns vectors' making or file formats is tested there: `ELSEWHERE`
says where. `ABSENT` are defects of something that is not here.

 1 a layer returns a tensor or a container      14 sign and scale of principal components
 2 `output_hidden_states` under steering        15 steering that silently does nothing
 3 the last hidden state is after the norm      16 threads, exceptions, clients that go away
 4 which layer a number means                   17 spread and quantised models
 5 decoding with a cache                        18 compiled models
 6 steered states stay in a cache               19 a residual in two halves (vLLM)
 7 padding                                      20 TransformerLens' folded weights
 8 convolution blocks                           21 encoding with an SAE
 9 half precision                               22 KL in which form
10 massive activations                          23 diversity that counts gibberish
11 units of a dose                              24 keyword metrics
12 chat template and thinking                   25 a cell picked and reported on the same items
13 where activations were read                  26 pickles
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_help import MEDIAN, ask, logits_of, plan, steer, tiny_library, tiny_loaded, tiny_vector
from tiny_models import ARCHITECTURES, HIDDEN, LAYERS, OTHER_LAYOUTS, tiny_model

from steergraph.engine.activations.sequences import block_outputs, sequence_activations
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.layers import decoder_layers, hidden_of, replace_hidden
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Sampling, ScoreRequest
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.steering.hooks import ActiveBatch, SteeringHooks
from steergraph.engine.steering.kl import kl_by_token
from steergraph.engine.steering.plans import SteeringPlan
from steergraph.engine.steering.receipts import Trail
from steergraph.engine.steering.records import Component, Steering
from steergraph.vectors.library import Library

PROMPT = [1, 40, 41, 42, 43, 44, 45]
ELSEWHERE = {
    10: ("test_vectors_methods.py", "test_massive_tokens_are_left_out_of_means_and_counted"),
    13: ("test_vectors_methods.py", "test_prompt_positions_are_where_they_say"),
    14: ("test_vectors_methods.py", "test_the_sign_is_the_majoritys_even_where_one_pair_outweighs_it"),
    23: ("test_vectors_calibrate.py", "test_the_largest_dose_before_degeneration"),
    25: ("test_stats.py", "holm"),
    26: ("test_formats_untrusted.py", "test_bare_pickles_are_never_opened"),
}
ABSENT = {
    20: "no vectors or SAEs of TransformerLens are read",
    21: "no SAE is loaded",
    24: "no metric counts keywords in the engine or the vectors",
}


def test_every_pitfall_has_its_test() -> None:
    here = Path(__file__)
    names = re.findall(r"^def test((?:_\d\d)+)_", here.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tested = {int(number) for name in names for number in name.strip("_").split("_")}
    assert tested | ELSEWHERE.keys() | ABSENT.keys() == set(range(1, 27))
    assert not tested & ABSENT.keys()
    for file, name in ELSEWHERE.values():
        (found,) = here.parents[1].rglob(file)
        assert name in found.read_text(encoding="utf-8")


@contextmanager
def steered(
    loaded: LoadedModel, steering: Steering, *, rows: int = 1, hooks: SteeringHooks | None = None
) -> Iterator[ActiveBatch]:
    """Steer all positions of forwards over `rows` rows of PROMPT's length."""
    own = hooks or SteeringHooks(loaded.model)
    try:
        placed = [plan(steering, loaded).place(len(PROMPT))] * rows
        with own.steering(placed, loaded.device) as batch, torch.no_grad():
            batch.at([0] * rows, len(PROMPT))
            yield batch
    finally:
        if hooks is None:
            own.remove()


def plain_logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(torch.tensor([PROMPT])).logits
    return logits


def last(loaded: LoadedModel) -> torch.Tensor:
    """[layers, 1, hidden] at PROMPT's last token."""
    return sequence_activations(loaded, [PROMPT]).at["last_prompt_token"]


def test_01_a_layer_may_return_a_tensor_or_a_container() -> None:
    hidden = torch.zeros(2, 3, 4)
    for output in (hidden, (hidden, "rest"), [hidden, "rest"]):
        assert hidden_of(output) is hidden
        other = replace_hidden(output, hidden + 1)
        assert type(other) is type(output) and torch.equal(hidden_of(other), hidden + 1)
        assert not isinstance(other, tuple | list) or other[1] == "rest"


def test_02_other_peoples_hooks_stay_and_output_hidden_states_still_works() -> None:
    loaded = tiny_loaded()
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        before = loaded.model(ids, output_hidden_states=True).hidden_states
    seen: list[int] = []
    foreign = decoder_layers(loaded.model)[0].register_forward_hook(lambda *_: seen.append(1))
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        engine.generate([ask(tokens=2, steering=steer())])
        last(loaded)
    heard = len(seen)
    assert heard >= 3
    with torch.no_grad():
        after = loaded.model(ids, output_hidden_states=True).hidden_states
    assert len(seen) == heard + 1 and len(after) == LAYERS + 1
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    foreign.remove()


def test_02_capture_sees_steering_whatever_ran_first() -> None:
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model(torch.tensor([PROMPT]), output_hidden_states=True)
    plain = last(loaded)
    with steered(loaded, steer(layer=1)):
        edited = last(loaded)
    dose = tiny_library(loaded.info)["v"].directions[1] / 3.0 * 8.0
    assert torch.equal(edited[0], plain[0])
    assert torch.allclose(edited[1] - plain[1], dose[None], atol=1e-4)


def test_02_output_hidden_states_tells_of_steering_whatever_was_registered_first() -> None:
    """transformers' own hooks are installed on first use and stay: they see what the next block sees all the same."""
    loaded = tiny_loaded()
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        plain = loaded.model(ids, output_hidden_states=True).hidden_states
    with steered(loaded, steer(layer=1)):
        edited = loaded.model(ids, output_hidden_states=True).hidden_states
    dose = tiny_library(loaded.info)["v"].directions[1] / 3.0 * 8.0
    assert torch.equal(edited[1], plain[1])
    assert torch.allclose(edited[2] - plain[2], dose.expand(1, len(PROMPT), -1), atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_03_04_layer_k_is_the_output_of_block_k_before_any_norm(architecture: str) -> None:
    """What is captured at k is the input of block k + 1, and at the last layer not what the final norm makes of it."""
    loaded = tiny_loaded(architecture)
    layers = decoder_layers(loaded.model)
    entered: dict[int, torch.Tensor] = {}

    def enter(index: int) -> Any:
        def hook(_module: Any, arguments: Any, options: dict[str, Any]) -> None:
            entered[index] = arguments[0] if arguments else options["hidden_states"]

        return hook

    handles = [layer.register_forward_pre_hook(enter(k), with_kwargs=True) for k, layer in enumerate(layers)]
    captured = last(loaded)
    for handle in handles:
        handle.remove()
    for k in range(LAYERS - 1):
        assert torch.equal(captured[k, 0], entered[k + 1][0, -1])
    with torch.no_grad():
        final = loaded.model(torch.tensor([PROMPT]), output_hidden_states=True).hidden_states[-1][0, -1]
    assert not torch.allclose(captured[-1, 0], final, atol=1e-2)


def test_05_decoding_with_a_cache_goes_on_steering() -> None:
    """Every cached step has length 1; each of its positions must be edited as in one long forward."""
    loaded = tiny_loaded()
    lengths: list[int] = []
    changed: list[bool] = []
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        layer = decoder_layers(loaded.model)[1]
        raw: list[torch.Tensor] = []
        last = layer.mlp.register_forward_hook(lambda m, a, o: raw.append(o.clone()))
        normed = layer.post_attention_layernorm.register_forward_pre_hook(lambda m, a: raw.append(a[0].clone()))

        def see(_module: Any, _arguments: Any, output: torch.Tensor) -> None:
            lengths.append(output.shape[1])
            changed.append(not torch.allclose(output[:, -1], (raw[-2] + raw[-1])[:, -1], atol=1e-3))

        seen = layer.register_forward_hook(see)
        engine.generate([ask(tokens=5, steering=steer(positions="generated"))])
        for handle in (last, normed, seen):
            handle.remove()
    assert lengths[0] > 1 and lengths[1:] == [1, 1, 1, 1]
    assert changed == [True] * 5


def test_05_the_first_generated_token_is_steered_by_the_last_prompt_token() -> None:
    loaded = tiny_loaded()
    off, on = (logits_of(loaded, [(PROMPT, [9], s)])[0] for s in (None, steer(positions="generated")))
    assert not torch.equal(off, on)
    trail = Trail(plan(steer(positions="generated"), loaded), len(PROMPT))
    trail.passed(0, len(PROMPT))
    assert trail.receipt().steered_ranges == ((len(PROMPT) - 1, len(PROMPT)),)
    assert trail.receipt().prompt_positions == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_06_no_steered_state_survives_a_request(architecture: str) -> None:
    """Each request starts from a fresh cache, so that switching vectors leaves no steered keys or convolution state."""
    loaded = tiny_loaded(architecture)
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        (before,) = engine.generate([ask()])
        engine.generate([ask(steering=steer("v")), ask(steering=steer("w", 2, -9.0))])
        (after,) = engine.generate([ask()])
    assert before.token_ids == after.token_ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_07_pads_are_never_edited(architecture: str) -> None:
    loaded = tiny_loaded(architecture)
    rows = [(PROMPT, [9], steer()), ([1, 60], [9], steer())]
    with block_outputs(loaded.model) as seen:
        logits_of(loaded, [(prompt, answer, None) for prompt, answer, _ in rows])
        plain = seen[1].clone()
    pads = len(PROMPT) - 2
    batch = ActiveBatch([plan(steering, loaded).place(len(prompt)) for prompt, _, steering in rows], loaded.device)
    batch.at([0, -pads], len(PROMPT))
    edited = plain.clone()
    batch.edit(1, edited)
    assert torch.equal(edited[1, :pads], plain[1, :pads])
    assert not (edited[1, pads:] == plain[1, pads:]).all(dim=-1).any()


def test_08_convolution_blocks_are_steered_like_attention_blocks() -> None:
    loaded = tiny_loaded("lfm2")
    assert loaded.model.config.layer_types[0] == "conv" and loaded.model.config.layer_types[1] == "full_attention"
    plain = last(loaded)
    for layer in (0, 1):
        with steered(loaded, steer(layer=layer)):
            edited = last(loaded)
        dose = tiny_library(loaded.info)["v"].directions[layer] / 3.0 * 8.0
        assert torch.allclose(edited[layer] - plain[layer], dose[None], atol=1e-4)


def test_09_small_doses_are_summed_before_they_are_rounded() -> None:
    """In bfloat16 each of four adds of 0.25 to 128 rounds away; their sum does not."""
    loaded = tiny_loaded()
    quarter = tiny_vector(loaded.info, directions={1: torch.ones(HIDDEN) * 0.25})
    component = Component(vector="v", layer=1, alpha=1.0, unit="raw")
    four = plan(Steering(components=(component,) * 4), loaded, Library({"v": quarter}))
    hidden = torch.full((1, 1, HIDDEN), 128.0, dtype=torch.bfloat16)
    batch = ActiveBatch([four.place(1)], loaded.device)
    batch.at([0], 1)
    edited = hidden.clone()
    batch.edit(1, edited)
    assert edited.dtype == torch.bfloat16 and torch.equal(edited, hidden + 1)
    naive = hidden
    for _ in range(4):
        naive = naive + 0.25
    assert torch.equal(naive, hidden)


def test_09_norms_in_half_precision_do_not_overflow() -> None:
    loaded = tiny_loaded()
    big = torch.full((HIDDEN,), 60_000.0, dtype=torch.float16)
    row = plan(steer(alpha=1.0), loaded, Library({"v": tiny_vector(loaded.info, directions={1: big})}))
    assert row.adds[1].norm(dim=-1).tolist() == pytest.approx([1.0])


def test_10_the_first_token_counts_in_no_mean_and_no_median() -> None:
    loaded = tiny_loaded()
    sequences = [PROMPT, [1, *PROMPT[1:]]]
    calm = sequence_activations(loaded, sequences)

    def massive(_module: Any, _arguments: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output[:, :1] * 1000, output[:, 1:]], dim=1)

    handle = decoder_layers(loaded.model)[-1].register_forward_hook(massive)
    spiked = sequence_activations(loaded, sequences)
    handle.remove()
    assert torch.equal(spiked.medians, calm.medians)
    assert torch.equal(spiked.at["prompt_mean"], calm.at["prompt_mean"])


def test_11_a_receipt_gives_the_relative_dose_whatever_the_unit() -> None:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        doses = {}
        for unit in ("unit_vector", "raw", "residual"):
            (completion,) = engine.generate([ask(tokens=1, steering=steer(alpha=-2.0, unit=unit))])
            assert completion.receipt is not None
            doses[unit] = completion.receipt.components[0].relative_dose
    # Length 1, length 3 as extracted, and MEDIAN, over MEDIAN.
    assert doses == pytest.approx({"unit_vector": 2 / MEDIAN, "raw": 6 / MEDIAN, "residual": 2.0})


def test_12_the_template_alone_sets_the_begin_token() -> None:
    tokenizer = tiny_loaded().tokenizer
    ids = Chat(tokenizer).prompt([Message(role="user", content="hi")])
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    base = tiny_loaded(chat=False).tokenizer
    assert Chat(base).prompt([Message(role="user", content="hi")]).count(base.bos_token_id) <= 1


def test_12_thinking_is_asked_for_explicitly_and_split_off() -> None:
    loaded = tiny_loaded()
    chat, message = Chat(loaded.tokenizer), [Message(role="user", content="hi")]
    off, on = chat.prompt(message), chat.prompt(message, enable_thinking=True)
    assert loaded.tokenizer.decode(off).endswith("<think>\n\n</think>\n\n")
    assert loaded.tokenizer.decode(on).endswith("assistant\n")
    assert not chat.opens_thinking(off) and not chat.opens_thinking(on)
    assert chat.opens_thinking([*on, *loaded.tokenizer("<think>\n", add_special_tokens=False)["input_ids"]])
    with LocalEngine(loaded) as engine:
        thinking, plain = (
            engine.submit(ask("hi", tokens=1, enable_thinking=flag)).result(20) for flag in (True, False)
        )
        assert thinking.usage.prompt_tokens == len(on) and plain.usage.prompt_tokens == len(off)


def test_15_steering_at_every_layer_of_every_architecture_changes_the_logits() -> None:
    for architecture in ARCHITECTURES + OTHER_LAYOUTS:
        loaded = tiny_loaded(architecture)
        (off,) = logits_of(loaded, [(PROMPT, [9], None)])
        for layer in range(LAYERS):
            (on,) = logits_of(loaded, [(PROMPT, [9], steer(layer=layer))])
            assert (on - off).abs().max() > 1e-3


def test_15_steering_that_reaches_no_layer_is_an_error() -> None:
    """However it comes that no hook ran (a model compiled before, a layer skipped), it must not pass for steering."""
    loaded = tiny_loaded()
    with pytest.raises(SteeringError, match="never reached"), steered(loaded, steer()):
        pass


def test_16_a_forward_of_another_thread_is_never_steered() -> None:
    loaded = tiny_loaded()
    expected = plain_logits(loaded)
    found: list[torch.Tensor] = []
    with steered(loaded, steer()):
        thread = threading.Thread(target=lambda: found.append(plain_logits(loaded)))
        thread.start()
        thread.join(20)
        assert not torch.equal(plain_logits(loaded), expected)
    assert torch.equal(found[0], expected)


def test_16_an_exception_leaves_the_model_unsteered() -> None:
    loaded = tiny_loaded()
    expected, hooks = plain_logits(loaded), SteeringHooks(loaded.model)
    with pytest.raises(ZeroDivisionError), steered(loaded, steer(), hooks=hooks):
        raise ZeroDivisionError
    assert torch.equal(plain_logits(loaded), expected)
    with (
        steered(loaded, steer(), hooks=hooks),
        pytest.raises(RuntimeError, match="already steered"),
    ):
        plain_logits(loaded)
        with hooks.steering([], loaded.device):
            pass
    hooks.remove()
    assert not any(layer._forward_hooks for layer in decoder_layers(loaded.model))


def test_16_a_client_that_goes_away_leaves_the_model_unsteered() -> None:
    loaded = tiny_loaded()
    expected = plain_logits(loaded)
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        handle = engine.submit(ask(steering=steer(), sampling=Sampling(max_new_tokens=200)))
        stream = handle.stream()
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        handle.cancel()
        handle.result(20)
        assert torch.equal(plain_logits(loaded), expected)


def test_17_the_edit_takes_the_hidden_states_type_and_device() -> None:
    """Quantised weights have another type than the residual, and a spread model other devices than its input's."""
    loaded = tiny_loaded()
    batch = ActiveBatch([plan(steer(), loaded).place(2)], loaded.device)
    batch.at([0], 2)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        hidden = torch.zeros(1, 2, HIDDEN, dtype=dtype)
        batch.edit(1, hidden)
        assert hidden.dtype == dtype and hidden.any()
    batch.edit(1, torch.zeros(1, 2, HIDDEN, device="meta"))
    assert batch.interventions[1][0].delta.device.type == "meta"


def test_17_a_model_in_bfloat16_generates_and_scores_steered() -> None:

    loaded = load_model(str(tiny_model("qwen3")), weights="bfloat16")
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        off, on = engine.generate([ask(), ask(steering=steer())])
        assert on.token_ids != off.token_ids
        assert engine.score([ScoreRequest(token_ids=(1, 2), continuation=(3,), steering=steer())])[0].total < 0


def test_18_a_compiled_model_sees_every_change_of_steering() -> None:
    """Hooks are there before the first compiled call; afterwards only tensors change, and nothing is compiled again."""
    from torch._dynamo.testing import CompileCounterWithBackend

    loaded = tiny_loaded()
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(loaded.model, backend=counter)
    hooks = SteeringHooks(compiled)
    ids = torch.tensor([PROMPT])
    seen: list[int] = []
    try:
        for steering in (steer(), steer(alpha=-8.0), steer("w"), None, steer("w", 3, 2.0), steer(alpha=1.0)):
            if steering is None:
                with torch.no_grad():
                    eager, traced = loaded.model(ids).logits, compiled(ids).logits
            else:
                with steered(loaded, steering, hooks=hooks):
                    eager, traced = loaded.model(ids).logits, compiled(ids).logits
            assert torch.allclose(eager, traced, atol=1e-5)
            seen.append(counter.frame_count)
        assert seen[0] == seen[1] == seen[2] and seen[-1] == seen[-2]
    finally:
        hooks.remove()
        torch.compiler.reset()


class TwoHalves(torch.nn.Module):
    """A layer as vLLM has them: what it computed and the residual, of which the stream is the sum."""

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hidden * 0.5, hidden * 2.0


def test_19_adding_to_one_half_is_adding_to_their_sum() -> None:
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.layers = torch.nn.ModuleList([TwoHalves()])
    row = SteeringPlan(ranges=((0, None),), adds={0: torch.full((1, 4), 3.0)})
    hidden = torch.randn(1, 2, 4)
    with SteeringHooks(model).steering([row.place(2)], torch.device("cpu")) as batch:
        batch.at([0], 2)
        output = model.model.layers[0](hidden)
    assert isinstance(output, tuple) and torch.allclose(sum(output), hidden * 2.5 + 3.0)


def test_22_kl_is_taken_between_log_softmaxes_in_float32() -> None:
    """In nats, KL(steered || unsteered), a number for every generated token; where a probability is 0 in float32,
    `softmax().log()` would be -inf."""
    loaded = tiny_loaded()
    hooks, answer, extreme = SteeringHooks(loaded.model), [9, 10, 11], steer(layer=LAYERS - 1, alpha=1e4)
    found = kl_by_token(loaded, hooks, PROMPT, answer, plan(extreme, loaded))
    steered_logits, plain = (logits_of(loaded, [(PROMPT, answer, one)])[0] * 1.0 for one in (extreme, None))
    assert found.shape == (3,) and bool(found.isfinite().all()) and bool((found >= 0).all())
    expected = (
        steered_logits.double().softmax(-1) * (steered_logits.double().log_softmax(-1) - plain.double().log_softmax(-1))
    ).sum(-1)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
