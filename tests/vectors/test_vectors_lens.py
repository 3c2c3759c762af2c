"""The lens is the model's own last step: at the last block it gives the model's own logits, in every layout."""

from functools import cache

import pytest
import torch
from tiny_models import ARCHITECTURES, HIDDEN, LAYERS, OTHER_LAYOUTS, tiny_model

from steergraph.engine.activations.texts import text_activations
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.protocol import Message
from steergraph.engine.steering.directions import SteeringError
from steergraph.vectors.compare.lens import (
    direction_logits,
    final_norm,
    look,
    residual_lens,
    residual_logits,
    vector_lens,
)
from steergraph.vectors.vector import make_vector

TEXT = "fix the bug in row 3"


@cache
def loaded(architecture: str = "qwen3") -> LoadedModel:
    return load_model(str(tiny_model(architecture)))


@pytest.mark.parametrize("architecture", ARCHITECTURES + OTHER_LAYOUTS)
def test_the_last_residual_is_read_as_the_model_reads_it(architecture: str) -> None:
    model = loaded(architecture)
    ids = Chat(model.tokenizer).prompt([Message(role="user", content=TEXT)])
    with torch.no_grad():
        wanted = model.model(torch.tensor([ids])).logits[0, -1]
    residuals = text_activations(model, [TEXT]).at["last_prompt_token"][:, 0]
    torch.testing.assert_close(residual_logits(model, residuals[-1]), wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(residual_logits(model, residuals[0]), wanted, atol=1e-2)
    shown = residual_lens(model, dict(enumerate(residuals)), top=3)
    assert shown[LAYERS - 1].promoted[0].id == int(wanted[: len(model.tokenizer)].argmax())


@pytest.mark.parametrize("architecture", ["qwen3", "lfm2", "gpt2", "neox"])
def test_a_direction_along_a_token_promotes_it(architecture: str) -> None:
    model = loaded(architecture)
    token = 77
    row = model.model.get_output_embeddings().weight[token].detach().float()
    centred = row - row.mean()  # what a layer norm lets through
    gain = next(final_norm(model.model).parameters()).detach().float()
    vector = make_vector("token", {1: centred * gain.sign(), 2: -centred * gain.sign()})
    shown = vector_lens(model, vector, top=4)
    assert token in {seen.id for seen in shown[1].promoted}
    assert token in {seen.id for seen in shown[2].demoted}
    logits = [seen.logit for seen in shown[1].promoted]
    assert logits == sorted(logits, reverse=True)
    assert [seen.logit for seen in shown[1].demoted] == sorted(seen.logit for seen in shown[1].demoted)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_length_does_not_count_and_a_turned_direction_turns(architecture: str) -> None:
    model = loaded(architecture)
    direction = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(3))
    one = direction_logits(model, direction)
    torch.testing.assert_close(direction_logits(model, direction * 1e-4), one, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(direction_logits(model, -direction), -one, atol=1e-4, rtol=1e-4)
    assert bool(torch.isfinite(direction_logits(model, torch.zeros(HIDDEN))).all())


def test_tokens_are_as_the_tokenizer_says_them() -> None:
    model = loaded()
    shown = look(model, torch.arange(400.0), top=1000)
    assert len(shown.promoted) == len(shown.demoted) == min(len(model.tokenizer), 400)
    assert shown.demoted[50].token == model.tokenizer.decode([50])


def test_what_does_not_fit_is_one_line() -> None:
    for vector, layers, word in (
        (make_vector("wide", {0: torch.ones(8)}), None, "width"),
        (make_vector("v", {0: torch.ones(HIDDEN)}), [1], "no direction at layer 1"),
        (make_vector("v", {0: torch.ones(HIDDEN)}), [9], "out of range"),
    ):
        with pytest.raises(SteeringError, match=word):
            vector_lens(loaded(), vector, layers)
    with pytest.raises(SteeringError, match="final norm is not known"):
        final_norm(torch.nn.Linear(2, 2))
