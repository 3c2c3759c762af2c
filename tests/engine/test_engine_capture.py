"""Loading and capturing: every architecture is read, and what is captured is what the next block sees."""

import pytest
import torch
from tiny_models import ARCHITECTURES, HIDDEN, LAYERS, OTHER_LAYOUTS, WINDOW, tiny_model

from steergraph.base.errors import InputError
from steergraph.engine.activations.capture import block_outputs, capture
from steergraph.engine.loading.forward import Forward, pad_left
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.loading.models import load_model

SEQUENCES = [[1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49], [1, 90, 91], [7], [1, 200, 5, 120, 64, 300, 12]]


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_a_padded_batch_captures_what_each_row_alone_does(architecture: str) -> None:
    loaded = load_model(str(tiny_model(architecture)))
    assert (loaded.info.n_layers, loaded.info.hidden_size, loaded.info.window) == (LAYERS, HIDDEN, WINDOW)
    together = capture(loaded, SEQUENCES, batch_size=4)
    assert together.last.shape == together.mean.shape == (LAYERS, len(SEQUENCES), HIDDEN)
    assert together.last.dtype == together.mean.dtype == torch.float32
    for index, sequence in enumerate(SEQUENCES):
        alone = capture(loaded, [sequence])
        assert torch.allclose(together.last[:, index], alone.last[:, 0], atol=1e-4)
        assert torch.allclose(together.mean[:, index], alone.mean[:, 0], atol=1e-4)


def test_means_and_medians_leave_out_the_first_token() -> None:
    loaded = load_model(str(tiny_model("qwen3")))
    with torch.no_grad(), block_outputs(loaded.model) as seen:
        loaded.model(torch.tensor(SEQUENCES[:1]))
    captured = capture(loaded, SEQUENCES[:1])
    for layer in range(LAYERS):
        assert torch.allclose(captured.mean[layer, 0], seen[layer][0, 1:].mean(dim=0), atol=1e-5)
        norms = sorted(seen[layer][0, 1:].norm(dim=-1).tolist())
        assert captured.median_norm[layer] == pytest.approx((norms[4] + norms[5]) / 2, rel=1e-5)


def test_batch_size_changes_nothing_and_hooks_are_gone_afterwards() -> None:
    loaded = load_model(str(tiny_model("llama")))
    one, four = capture(loaded, SEQUENCES, batch_size=1), capture(loaded, SEQUENCES, batch_size=4)
    assert torch.allclose(one.last, four.last, atol=1e-4)
    assert torch.allclose(one.median_norm, four.median_norm, atol=1e-4)
    assert not any(layer._forward_hooks for layer in decoder_layers(loaded.model))


@pytest.mark.parametrize(
    ("sequences", "words"),
    [([], "no sequences"), ([[1], []], "sequence 1 is empty"), ([[1] * (WINDOW + 1)], "more than the window")],
)
def test_what_cannot_be_captured_is_said_in_one_line(sequences: list[list[int]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        capture(load_model(str(tiny_model("qwen3"))), sequences)


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
