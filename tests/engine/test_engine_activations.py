"""Activations: every architecture is read, and what is read is what the next block sees."""

import pytest
import torch
from tiny_models import ARCHITECTURES, HIDDEN, LAYERS, OTHER_LAYOUTS, WINDOW, tiny_model

from steergraph.base.errors import InputError
from steergraph.configs import load_config
from steergraph.engine.activations.sequences import block_outputs, median_norms, sequence_activations
from steergraph.engine.activations.texts import plain_median_norms
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.loading.models import load_model
from steergraph.engine.protocol import Message

SEQUENCES = [[1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49], [1, 90, 91], [7], [1, 200, 5, 120, 64, 300, 12]]


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_a_padded_batch_gives_what_each_sequence_alone_does(architecture: str) -> None:
    loaded = load_model(str(tiny_model(architecture)))
    assert (loaded.info.n_layers, loaded.info.hidden_size, loaded.info.window) == (LAYERS, HIDDEN, WINDOW)
    together = sequence_activations(loaded, SEQUENCES, batch_size=4)
    for found in together.at.values():
        assert found.shape == (LAYERS, len(SEQUENCES), HIDDEN) and found.dtype == torch.float32
    for index, sequence in enumerate(SEQUENCES):
        alone = sequence_activations(loaded, [sequence])
        for position, found in together.at.items():
            assert torch.allclose(found[:, index], alone.at[position][:, 0], atol=1e-4)


def test_means_and_medians_leave_out_the_first_token() -> None:
    loaded = load_model(str(tiny_model("qwen3")))
    with torch.no_grad(), block_outputs(loaded.model) as seen:
        loaded.model(torch.tensor(SEQUENCES[:1]))
    found = sequence_activations(loaded, SEQUENCES[:1])
    for layer in range(LAYERS):
        assert torch.allclose(found.at["prompt_mean"][layer, 0], seen[layer][0, 1:].mean(dim=0), atol=1e-5)
        norms = sorted(seen[layer][0, 1:].norm(dim=-1).tolist())
        assert found.medians[layer, 0] == pytest.approx((norms[4] + norms[5]) / 2, rel=1e-5)


def test_batch_size_changes_nothing_and_hooks_are_gone_afterwards() -> None:
    loaded = load_model(str(tiny_model("llama")))
    one, four = (
        sequence_activations(loaded, SEQUENCES, batch_size=1),
        sequence_activations(loaded, SEQUENCES, batch_size=4),
    )
    assert torch.allclose(one.at["last_prompt_token"], four.at["last_prompt_token"], atol=1e-4)
    assert torch.allclose(one.medians, four.medians, atol=1e-4)
    assert not any(layer._forward_hooks for layer in decoder_layers(loaded.model))


def test_the_median_norm_counts_every_text_once_and_is_that_of_prompts() -> None:
    loaded = load_model(str(tiny_model("qwen3")))
    found = sequence_activations(loaded, SEQUENCES)
    assert torch.equal(median_norms(found), found.medians.quantile(0.5, dim=1))
    halves = sequence_activations(loaded, SEQUENCES[:1]), sequence_activations(loaded, SEQUENCES[1:])
    assert torch.allclose(median_norms(*halves), median_norms(found), rtol=1e-4)
    prompts = [
        Chat(loaded.tokenizer).prompt((Message(role="user", content=t),)) for t in load_config("contrast/neutral")
    ]
    plain = median_norms(sequence_activations(loaded, [prompt[:WINDOW] for prompt in prompts]))
    assert plain_median_norms(loaded) == pytest.approx(plain.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("sequences", "words"),
    [([], "no texts"), ([[1], []], "text 1 has 0 tokens"), ([[1] * (WINDOW + 1)], "more than the window")],
)
def test_what_cannot_be_read_is_said_in_one_line(sequences: list[list[int]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        sequence_activations(load_model(str(tiny_model("qwen3"))), sequences)


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_forward_with_a_cache_equals_forward_without(architecture: str) -> None:
    loaded = load_model(str(tiny_model(architecture)))
    forward = Forward(loaded)
    padded = pad_left(SEQUENCES, loaded.pad_id, loaded.device)
    with torch.no_grad():
        whole, _ = forward(padded.ids, padded.mask, padded.positions, keep=3)
        cut = padded.ids.shape[1] - 3
        _, cache = forward(padded.ids[:, :cut], padded.mask[:, :cut], padded.positions[:, :cut], use_cache=True)
        for step in range(3):
            column = slice(cut + step, cut + step + 1)
            logits, cache = forward(
                padded.ids[:, column],
                padded.mask[:, : cut + step + 1],
                padded.positions[:, column],
                cache=cache,
                use_cache=True,
            )
            # A row that begins inside these columns starts from pads and has nothing to compare before its first token.
            rows = padded.mask[:, cut + step].bool()
            assert torch.allclose(logits[rows, 0], whole[rows, step], atol=1e-4)
