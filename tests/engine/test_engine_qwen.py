"""The engine with the real Qwen2 tokenizer: its chat template's own thinking, its special tokens, its bytes."""

import json
from pathlib import Path

import pytest
from engine_help import steer, tiny_library
from tiny_models import ARCHITECTURES, tiny_network

from steergraph.engine.decode.text import Detokenizer
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import load_model
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Request, Sampling

pytestmark = pytest.mark.realdata

MESSAGES = (
    Message(role="system", content="You find bugs."),
    Message(role="user", content="mean([]) raises ZeroDivisionError: 東京 🙂 <|im_end|>"),
)


@pytest.fixture(scope="module")
def tokenizer_folder(data: Path) -> Path:
    return data / "tokenizers" / "qwen2"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_runs_steers_and_reports_with_the_real_tokenizer(
    architecture: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    tiny_network(architecture, vocabulary=151_700).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
        (tmp_path / name).write_bytes((tokenizer_folder / name).read_bytes())
    loaded = load_model(str(tmp_path))
    assert loaded.info.name == tmp_path.name and loaded.info.kind == "instruct"
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        requests = [
            Request(messages=MESSAGES, sampling=Sampling(max_new_tokens=6), steering=steering)
            for steering in (None, steer())
        ]
        off, on = engine.generate(requests)
        assert off.receipt is None and on.receipt is not None
        assert off.token_ids != on.token_ids
        assert on.receipt.prompt_positions == on.usage.prompt_tokens == engine.count_tokens(MESSAGES)


def test_the_template_and_the_special_tokens_are_the_real_ones(tokenizer_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = Chat(tokenizer).prompt(MESSAGES)
    # Two turns end; the third <|im_end|> is what the user wrote, as text.
    assert ids.count(end) == 2 and "🙂 <|im_end|>" in tokenizer.decode(ids)
    config = json.loads((tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["chat_template"]
    plain = [MESSAGES[0], Message(role="user", content="hi")]
    expected = tokenizer.apply_chat_template(
        [message.model_dump() for message in plain], add_generation_prompt=True, return_dict=False
    )
    assert Chat(tokenizer).prompt(plain) == expected


def test_streams_of_real_text_join_to_the_text(tokenizer_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    text = Path(__file__).read_text(encoding="utf-8") + "\r\n\t 日本語テキスト ｆｕｌｌ 👩‍👩‍👧 नमस्ते"
    detokenizer = Detokenizer(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = [detokenizer.push(token) for token in ids]
    assert "".join([*pieces, detokenizer.flush()]) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
