"""The embedded models as they are shipped: what they are, how large, and that each does what it is for at all."""

import pytest
from transformers import AutoConfig

from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Request, Sampling
from steergraph.pocket import MODELS, weights_path
from training.tasks.registers import corpus_registers, draw_register
from training.tokenizer import END

MOST_BYTES = 16_000_000


@pytest.mark.parametrize("name", MODELS)
def test_shape_and_size(name: str) -> None:
    folder = weights_path(name)
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "qwen3"
    assert 12 <= config.num_hidden_layers <= 16
    assert config.max_position_embeddings >= 1024
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= MOST_BYTES
    loaded = load_model(name)
    assert loaded.info.name == name
    assert loaded.info.kind == ("base" if name == "pocket-base" else "instruct")


def test_both_speak_in_the_registers_they_learnt() -> None:
    registers = corpus_registers(1, 40)
    for name in MODELS:
        with LocalEngine(name) as engine:
            samples = [draw_register("bug_analysis", "shipped models", index) for index in range(8)]
            said = engine.generate(
                [
                    Request(
                        messages=tuple(Message.model_validate(message) for message in sample.messages),
                        sampling=Sampling(max_new_tokens=60),
                    )
                    for sample in samples
                ]
            )
        assert [one.finish_reason for one in said].count("stop") >= 7
        assert not any(END in one.text for one in said)
        assert registers.tell([one.text for one in said]).count("bug_analysis") >= 6
