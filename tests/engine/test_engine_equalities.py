"""What must be equal, on every architecture: to transformers, to the row alone, to the same batch without steering."""

from collections.abc import Callable

import pytest
import torch
from engine_help import TEXTS, ask, logits_of, plan, steer, tiny_library, tiny_loaded
from tiny_models import ARCHITECTURES, OTHER_LAYOUTS, SLIDING
from torch import nn

from steergraph.engine.activations.sequences import block_outputs
from steergraph.engine.decode.decoder import Decoder
from steergraph.engine.decode.samples import Sample
from steergraph.engine.decode.text import AnswerText, Detokenizer, SpanWatch
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Sampling
from steergraph.engine.scoring.score import ForcedSample, forced_logits
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.records import Component, Steering

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
PROMPTS = ([1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49], [1, 90, 91], [1, 200, 5, 120, 64, 300, 12])
CONTINUATION = [7, 77, 177, 27, 90, 14]
TWO = Steering(
    components=(
        Component(vector="v", layer=0, alpha=6.0, positions="generated"),
        Component(vector="w", layer=2, alpha=-5.0, unit="raw"),
        Component(vector="u", layer=2, alpha=0.0, operation="ablate"),
    )
)


def run_rows(
    loaded: LoadedModel, rows: list[tuple[list[int], Steering | None]], *, tokens: int, **options: int
) -> list[Sample]:
    """Decode (prompt, steering) rows greedily in one batch."""
    hooks = SteeringHooks(loaded.model)
    made = [
        Sample(
            prompt=prompt,
            plan=plan(steering, loaded),
            sampling=Sampling(),
            seed=0,
            answer=AnswerText(Detokenizer(loaded.tokenizer), (), lambda piece: None),
            spans=SpanWatch(Detokenizer(loaded.tokenizer), ()),
            room=tokens,
            deadline=None,
            cancelled=lambda: False,
            done=lambda row: None,
        )
        for prompt, steering in rows
    ]
    try:
        decoder = Decoder(loaded, hooks, max_rows=len(made), **options)
        decoder.resumed.extend(made)
        while decoder.busy:
            decoder.admit(decoder.take_resumed())
            decoder.step()
    finally:
        hooks.remove()
    return made


@EVERY
def test_greedy_tokens_equal_transformers_generate(architecture: str) -> None:
    loaded = tiny_loaded(architecture)
    with LocalEngine(loaded) as engine:
        requests = [ask(text, tokens=16) for text in TEXTS]
        for request, completion in zip(requests, engine.generate(requests), strict=True):
            prompt = loaded.tokenizer.apply_chat_template(
                [message.model_dump() for message in request.messages or ()],
                add_generation_prompt=True,
                enable_thinking=False,
                return_dict=False,
            )
            assert len(prompt) > SLIDING and completion.usage.prompt_tokens == len(prompt)
            oracle = loaded.model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)
            expected = [token for token in oracle[0, len(prompt) :].tolist() if token not in loaded.eos_ids]
            assert list(completion.token_ids) == expected


@EVERY
@pytest.mark.parametrize("steering", [steer(), TWO], ids=["one", "several"])
def test_unsteered_rows_keep_their_bits_beside_steered_ones(architecture: str, steering: Steering) -> None:
    loaded = tiny_loaded(architecture)
    plain = logits_of(loaded, [(prompt, CONTINUATION, None) for prompt in PROMPTS])
    mixed = logits_of(
        loaded, [(prompt, CONTINUATION, steering if row == 1 else None) for row, prompt in enumerate(PROMPTS)]
    )
    assert torch.equal(plain[0], mixed[0]) and torch.equal(plain[2], mixed[2])
    assert (plain[1] - mixed[1]).abs().max() > 0.01


@EVERY
@pytest.mark.parametrize("steering", [None, steer(), TWO], ids=["off", "one", "several"])
def test_a_left_padded_row_has_the_logits_of_the_row_alone(architecture: str, steering: Steering | None) -> None:
    loaded = tiny_loaded(architecture)
    rows = [(prompt, CONTINUATION, steering) for prompt in PROMPTS]
    for row, together in zip(rows, logits_of(loaded, rows), strict=True):
        (alone,) = logits_of(loaded, [row])
        assert (together - alone).abs().max() < 1e-4


@EVERY
@pytest.mark.parametrize(
    "steering", [None, steer(), steer(positions="generated"), TWO], ids=["off", "all", "gen", "several"]
)
def test_cached_decoding_equals_one_uncached_forward(architecture: str, steering: Steering | None) -> None:
    """Each generated token is the likeliest one in a teacher-forced forward over prompt and answer."""
    loaded = tiny_loaded(architecture)
    for row in run_rows(loaded, [(list(prompt), steering) for prompt in PROMPTS], tokens=10):
        tokens = row.token_ids + ([2] if row.finish == "stop" else [])
        (logits,) = logits_of(loaded, [(row.prompt, tokens, steering)])
        chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        assert (logits.max(dim=-1).values - chosen).max() < 1e-4


@EVERY
@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_chunked_prefill_steers_the_same_positions(architecture: str, chunk: int) -> None:
    loaded = tiny_loaded(architecture)
    rows = [(list(PROMPTS[0]), steer(positions="generated")), (list(PROMPTS[1]), steer()), (list(PROMPTS[2]), None)]
    whole, chunked = run_rows(loaded, rows, tokens=8), run_rows(loaded, rows, tokens=8, chunk=chunk)
    for one, other in zip(whole, chunked, strict=True):
        assert one.token_ids == other.token_ids
        assert one.trail.receipt() == other.trail.receipt()


@EVERY
@pytest.mark.parametrize("positions", ["all", "generated"])
def test_exactly_the_asked_positions_are_edited(architecture: str, positions: str) -> None:
    """At the steered layer the difference to an unsteered forward is the dose, at the asked positions, nowhere else."""
    loaded = tiny_loaded(architecture)
    vector = tiny_library(loaded.info)["v"].directions[1]
    sequences = [[*prompt, *CONTINUATION[:-1]] for prompt in PROMPTS]
    width = max(map(len, sequences))
    rows = [(prompt, CONTINUATION, steer(positions=positions)) for prompt in PROMPTS]
    with block_outputs(loaded.model) as seen:
        logits_of(loaded, [(prompt, CONTINUATION, None) for prompt in PROMPTS])
        plain = seen[1].clone()
    hooks = SteeringHooks(loaded.model)
    with block_outputs(loaded.model) as seen:
        forced_logits(loaded, hooks, [ForcedSample(p, c, plan(s, loaded)) for p, c, s in rows])
        steered = seen[1].clone()
    hooks.remove()
    for index, (prompt, sequence) in enumerate(zip(PROMPTS, sequences, strict=True)):
        pad = width - len(sequence)
        first = pad if positions == "all" else pad + len(prompt) - 1
        difference = steered[index] - plain[index]
        assert torch.equal(steered[index, :first], plain[index, :first])
        assert torch.allclose(difference[first:], (8.0 * vector / vector.norm()).expand(width - first, -1), atol=1e-4)


@EVERY
def test_rows_that_end_leave_the_batch_and_change_nobody(architecture: str) -> None:
    loaded = tiny_loaded(architecture)
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        lengths = [3, 14, 7, 10]
        requests = [ask(text, tokens=length, steering=steer()) for text, length in zip(TEXTS, lengths, strict=True)]
        together = engine.generate(requests)
        forwards = engine.counters.forwards
        assert engine.counters.batches == 1 and forwards <= max(lengths)
        for request, completion in zip(requests, together, strict=True):
            (alone,) = engine.generate([request])
            assert completion.token_ids == alone.token_ids
            assert completion.receipt == alone.receipt


def test_ablation_leaves_nothing_along_the_direction() -> None:
    loaded = tiny_loaded()
    steering = Steering(
        components=(
            Component(vector="v", layer=1, alpha=1.0, operation="ablate"),
            Component(vector="w", layer=1, alpha=1.0, operation="ablate"),
        )
    )
    library = tiny_library(loaded.info)
    hooks = SteeringHooks(loaded.model)
    with block_outputs(loaded.model) as seen:
        forced_logits(loaded, hooks, [ForcedSample(PROMPTS[0], CONTINUATION, plan(steering, loaded))])
    hooks.remove()
    for name in "vw":
        direction = library[name].directions[1]
        assert (seen[1] @ (direction / direction.norm())).abs().max() < 1e-4
    assert seen[1].abs().max() > 0.1


class TupleLayer(nn.Module):
    """A layer as transformers 4 had them: its output is a container that starts with the hidden states."""

    def __init__(self, layer: nn.Module, container: Callable[..., object]) -> None:
        super().__init__()
        self.layer = layer
        self.container = container

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *arguments: object, **options: object) -> object:
        return self.container((self.layer(*arguments, **options), "rest"))


class Unpack(nn.Module):
    def __init__(self, layer: nn.Module, container: type) -> None:
        super().__init__()
        self.layer = layer
        self.container = container

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *arguments: object, **options: object) -> object:
        output = self.layer(*arguments, **options)
        assert type(output) is self.container and output[1] == "rest"
        return output[0]


@pytest.mark.parametrize("container", [tuple, list])
def test_layers_that_return_containers_are_steered_alike(container: type, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_loaded()
    rows = [(prompt, CONTINUATION, steer()) for prompt in PROMPTS]
    expected = logits_of(loaded, rows)
    layers = decoder_layers(loaded.model)
    inner = [TupleLayer(layer, container) for layer in layers]
    outer = nn.ModuleList(Unpack(layer, container) for layer in inner)
    monkeypatch.setattr(loaded.model.model, "layers", outer)
    # The hooks sit on the layers that return containers; the model around them sees plain tensors.
    monkeypatch.setattr("steergraph.engine.steering.hooks.decoder_layers", lambda model: nn.ModuleList(inner))
    for one, other in zip(expected, logits_of(loaded, rows), strict=True):
        assert torch.equal(one, other)
