"""What is found out of a chat template: whether system texts arrive, what ends a turn; and that messages stay data."""

import copy
from pathlib import Path
from typing import Any

import pytest
from gguf_help import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEMPLATE, tiny_tokenizer
from transformers import AutoTokenizer

from steergraph.base.errors import InputError
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import load_model
from steergraph.engine.loading.template import marks, placed, probe
from steergraph.engine.protocol import Message
from steergraph.pocket import weights_path

POCKET = AutoTokenizer.from_pretrained(weights_path("pocket"))
# SmolLM2's own template, in this tokenizer's words.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n'"
    " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LOOP = "{% for message in messages %}"
DROPS_LATER = (
    "{% if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{% endif %}"
    "{% for message in messages if message['role'] != 'system' %}{{'<|im_start|>' + message['role'] + '\n'"
    " + message['content'] + '<|im_end|>\n'}}{% endfor %}"
)
DROPS_ALL = SMOLLM2.replace(LOOP, "{% for message in messages if message['role'] != 'system' %}")
REFUSES = SMOLLM2.replace(
    LOOP, LOOP + "{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
)
CRASHES = SMOLLM2.replace(LOOP, LOOP + "{% if message['role'] == 'system' %}{{ 1 + 'a' }}{% endif %}")


def with_template(tokenizer: Any, template: str | None) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def said(template: str, *turns: tuple[str, str]) -> str:
    tokenizer = with_template(POCKET, template)
    ids = Chat(tokenizer).prompt([Message(role=role, content=content) for role, content in turns])  # type: ignore[arg-type]
    return str(tokenizer.decode(ids))


@pytest.mark.parametrize(
    ("template", "first", "later"),
    [
        (POCKET.chat_template, True, True),
        (SMOLLM2, True, True),
        (DROPS_LATER, True, False),
        (DROPS_ALL, False, False),
        (REFUSES, False, False),
        (CRASHES, False, False),
        (None, True, True),
    ],
)
def test_whether_a_system_text_arrives(template: str | None, first: bool, later: bool) -> None:
    found = probe(with_template(POCKET, template))
    assert (found.first_system, found.later_system) == (first, later)


@pytest.mark.parametrize("template", [SMOLLM2, DROPS_LATER, DROPS_ALL, REFUSES, CRASHES])
def test_every_system_text_is_in_the_prompt(template: str) -> None:
    turns = (("system", "be brief"), ("user", "one"), ("assistant", "two"), ("system", "be kind"), ("user", "three"))
    text = said(template, *turns)
    assert [text.index(content) for _, content in turns] == sorted(text.index(content) for _, content in turns)
    if template in (REFUSES, DROPS_ALL, CRASHES):
        assert "<|im_start|>user\nbe brief\n\none<|im_end|>" in text and "user\nbe kind\n\nthree<|im_end|>" in text


ROLES = st.sampled_from(["system", "user", "assistant"])


@settings(deadline=None)
@given(st.lists(ROLES, min_size=1, max_size=7), st.sampled_from([DROPS_LATER, DROPS_ALL, REFUSES]))
def test_no_text_is_lost_whatever_the_order_of_roles(roles: list[str], template: str) -> None:
    messages = [{"role": role, "content": f"text-{at}."} for at, role in enumerate(roles)]
    there = placed(messages, probe(with_template(POCKET, template)))
    whole = "\n\n".join(message["content"] for message in there)
    assert whole == "\n\n".join(message["content"] for message in messages)
    assert not any(message["role"] == "system" for message in there[1:])


def test_the_token_behind_an_answer_ends_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    assert probe(POCKET).end_ids == {2}
    assert probe(with_template(POCKET, SMOLLM2.replace("<|im_end|>", "<|endoftext|>"))).end_ids == {0}
    assert not probe(with_template(POCKET, "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}")).end_ids
    # The file says that token 1 ends a text; the template says that <|start|> (3) ends a turn.
    fields = {"tokenizer.ggml.eos_token_id": 1, "tokenizer.chat_template": TEMPLATE.replace("<|end|>", " <|start|>")}
    assert load_model(str(tiny_gguf(tmp_path / "tiny.gguf", fields=fields))).eos_ids == {1, 3}


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch RAN') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for a in range(10**9) %}{% endfor %}",
        "{{ 1 / 0 }}",
        "{% if %}",
        "{{ messages[99].content.x }}",
    ],
)
def test_a_hostile_or_broken_template_is_one_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    path = tiny_gguf(
        tmp_path / "tiny.gguf", fields={"tokenizer.chat_template": template.replace("RAN", str(tmp_path / "ran"))}
    )
    loaded = load_model(str(path))
    with pytest.raises(InputError, match=r"^the model's chat template refuses these messages: ") as caught:
        Chat(loaded.tokenizer).prompt([Message(role="user", content="hello")])
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


ADDED = ("<|end|>", "<|start|>", "<think>", "</think>", "<tool_call>", "[TOOL]")
MARKED = copy.deepcopy(tiny_tokenizer())
MARKED.add_tokens(["<tool_call>", "[TOOL]", "<td>", "    "])


@settings(deadline=None)
@given(st.lists(st.sampled_from([*ADDED, "<", "|", "end", "|>", "think", ">", "</", " ", "a"]), max_size=8))
def test_no_text_of_a_user_becomes_a_mark(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = Chat(MARKED).text(text)
    found = {MARKED.added_tokens_decoder[token].content for token in ids if token in MARKED.added_tokens_decoder}
    assert not found & set(ADDED)
    assert MARKED.decode(ids) == text


def test_tokens_that_are_text_stay_tokens_and_an_answer_keeps_its_thinking() -> None:
    assert len(Chat(MARKED).text("<td>")) == 1 and len(Chat(MARKED).text("    ")) == 1
    chat = Chat(MARKED)
    think = MARKED.convert_tokens_to_ids("<think>")

    def prompt(role: Any) -> list[int]:
        return chat.prompt([Message(role="user", content="a"), Message(role=role, content="<think>x</think><|end|>")])

    assert prompt("assistant").count(think) == 2 and prompt("user").count(think) == 1  # one is the template's own
    assert prompt("assistant").count(2) == 2  # the template's own, none of the answer's
    assert marks(with_template(POCKET, None)) is not None


LAST_ONE = (
    "{% set ns = namespace(s='') %}"
    "{% for m in messages %}{% if m.role == 'system' %}{% set ns.s = m.content %}{% endif %}{% endfor %}"
    "{{ ns.s }}{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>\n{% endif %}{% endfor %}"
)
NOT_WHILE_THINKING = LAST_ONE.replace("{{ ns.s }}", "{% if not enable_thinking %}{{ ns.s }}{% endif %}")


@pytest.mark.parametrize("template", [LAST_ONE, NOT_WHILE_THINKING])
def test_a_template_that_keeps_one_system_text_of_two_loses_none(template: str) -> None:
    text = said(template, ("system", "be brief"), ("system", "be kind"), ("user", "one"))
    assert "be brief" in text and "be kind" in text
    first = probe(with_template(POCKET, template)).first_system
    assert first is (template == LAST_ONE)
