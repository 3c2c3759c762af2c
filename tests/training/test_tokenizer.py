"""The tokenizer: text comes back as it was, names have one spelling in tokens, and the chat template is ChatML."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from steergraph.configs.prompts import build_messages
from training.tokenizer import END, PAD, START, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(1, vocab_size=1024, samples=300).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def ids(tokenizer: Any) -> Any:
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


LINES = [
    "    return total",
    "for item in items:",
    '"""Doc."""',
    ")",
    "        self.on_hand += 12",
    "# note",
    "@property",
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_has_the_same_tokens_behind_its_number_and_after_a_line_break(ids: Any, line: str) -> None:
    assert ids(f"12|{line}")[len(ids("12|")) :] == ids(line) == ids(f"\n{line}")[1:]


def test_a_name_has_the_same_tokens_everywhere(ids: Any) -> None:
    name = ids("zorbel_quantity")
    for before, after in (("`", "`"), ("def ", "("), (" = ", "\n"), ("### ", ".py"), ("12|", ")")):
        tokens = ids(f"x{before}zorbel_quantity{after}")
        assert any(tokens[i : i + len(name)] == name for i in range(len(tokens))), before


def test_digits_are_one_token_each(ids: Any) -> None:
    assert len(ids("1234567890")) == 10


@given(text=st.text(max_size=60))
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    if not any(special in text for special in (START, END, PAD)):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_chat_template_is_chatml_and_tolerates_thinking(tokenizer: Any) -> None:
    messages = build_messages("bug_analysis", {"issue": "It fails."})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text.startswith(f"{START}system\nYou analyse bugs.")
    assert text.endswith(f"{START}user\nIssue:\nIt fails.{END}\n{START}assistant\n")
    assert tokenizer.is_fast and tokenizer.eos_token == END and tokenizer.pad_token == PAD
