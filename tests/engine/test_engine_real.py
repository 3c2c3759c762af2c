"""The engine on a pretrained model, SmolLM2-135M: the equalities that tiny random models hold, on real activations.

steergraph models fetch smollm2 && pytest -m realmodel
"""

import pytest
import torch
from engine_help import logits_of, steer, tiny_library

from steergraph.engine.loading.half import has_half_products
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Completion, Message, Request, Sampling
from steergraph.engine.steering.records import Steering

pytestmark = [pytest.mark.slow, pytest.mark.realmodel("smollm2")]

QUESTIONS = (
    "Write a Python function that adds two numbers.",
    "Name three primary colours.",
    "for i in range(10):\n    print(i)\n\nWhat does this print?",
)
NASTY = (
    "cafe\u0301 café",
    "\r\n\r\n \n x",
    "    for i in range(1234):\n\t\tprint(i)",
    "don't DON'T",
    "½ ² ٣ 1٣",
    "東京 🙂👍🏽",
)
NEAR = 2e-3
"""Of logits that are tens: what another shape of a batch makes of float32 in thirty layers."""


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    return load_model("smollm2")


def asked(text: str, steering: Steering | None = None, tokens: int = 12) -> Request:
    return Request(
        messages=(Message(role="user", content=text),),
        steering=steering,
        sampling=Sampling(max_new_tokens=tokens),
    )


def prompts(loaded: LoadedModel) -> list[list[int]]:
    return [
        loaded.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in QUESTIONS
    ]


def test_what_is_known_of_it(smollm2: LoadedModel) -> None:
    info = smollm2.info
    held = "float16" if has_half_products() else "float32"
    assert (info.name, info.revision, info.quantization) == ("smollm2", "b179c9523d0e6a0f", f"Q4_1 as {held}")
    assert (info.n_layers, info.hidden_size, info.window, info.kind) == (30, 576, 8192, "instruct")
    end = smollm2.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in smollm2.eos_ids


@pytest.mark.parametrize("text", NASTY)
def test_text_comes_back_whole_and_digits_stand_alone(smollm2: LoadedModel, text: str) -> None:
    tokenizer = smollm2.tokenizer
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert all(len(token) == 1 for token in tokens if any(letter in "0123456789" for letter in token))


def test_greedy_tokens_equal_transformers_generate(smollm2: LoadedModel) -> None:
    with LocalEngine(smollm2, deterministic=True) as engine:
        for ids, completion in zip(prompts(smollm2), engine.generate([asked(text) for text in QUESTIONS]), strict=True):
            made = smollm2.model.generate(
                torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=sorted(smollm2.eos_ids)
            )
            expected = [token for token in made[0, len(ids) :].tolist() if token not in smollm2.eos_ids]
            assert list(completion.token_ids) == expected


def test_an_answer_ends(smollm2: LoadedModel) -> None:
    with LocalEngine(smollm2) as engine:
        (found,) = engine.generate([asked("What is the capital of France? Answer in one word.", tokens=60)])
    assert found.finish_reason == "stop" and "Paris" in found.text


def test_rows_together_have_the_logits_of_rows_alone(smollm2: LoadedModel) -> None:
    rows = [(ids, ids[:8], steer(layer=12) if at == 1 else None) for at, ids in enumerate(prompts(smollm2))]
    together = logits_of(smollm2, rows)
    for row, found in zip(rows, together, strict=True):
        (alone,) = logits_of(smollm2, [row])
        assert torch.allclose(found, alone, atol=NEAR)


def test_a_row_beside_a_steered_one_keeps_its_bits(smollm2: LoadedModel) -> None:
    one, other, _ = prompts(smollm2)
    plain, _ = logits_of(smollm2, [(one, other[:8], None), (other, one[:8], None)])
    beside, steered = logits_of(smollm2, [(one, other[:8], None), (other, one[:8], steer(layer=12))])
    assert torch.equal(plain, beside)
    (unsteered,) = logits_of(smollm2, [(other, one[:8], None)])
    assert not torch.allclose(steered, unsteered, atol=NEAR)


@pytest.mark.parametrize("steering", [None, steer(layer=12, positions="generated")], ids=["plain", "steered"])
def test_a_reused_prompt_gives_the_answer_of_a_computed_one(smollm2: LoadedModel, steering: Steering | None) -> None:
    library = tiny_library(smollm2.info)
    requests = [asked(QUESTIONS[0] + ending, steering) for ending in ("", " Be brief.", " Explain it.")]
    with LocalEngine(smollm2, library) as kept, LocalEngine(smollm2, library, prefix_bytes=0) as fresh:
        again, computed = [kept.generate([one])[0] for one in requests], [fresh.generate([one])[0] for one in requests]
    assert sum(one.usage.cached_tokens for one in again) > 20 and not any(one.usage.cached_tokens for one in computed)
    for request, one, other in zip(requests, again, computed, strict=True):
        assert one.token_ids == other.token_ids or _nearly_tied(smollm2, request, one, other)


def _nearly_tied(loaded: LoadedModel, request: Request, one: Completion, other: Completion) -> bool:
    """Whether two greedy answers part at a step where both tokens are as good as equally likely."""
    at = next(k for k, (a, b) in enumerate(zip(one.token_ids, other.token_ids, strict=False)) if a != b)
    assert request.messages
    messages = [{"role": "user", "content": request.messages[0].content}]
    ids = loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    (logits,) = logits_of(loaded, [(ids, list(one.token_ids[: at + 1]), request.steering)])
    return abs(float(logits[at, one.token_ids[at]] - logits[at, other.token_ids[at]])) < NEAR
