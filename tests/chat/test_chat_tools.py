"""Tool calls as words: whatever a model says is taken apart without an error, and what was written is read back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.chat.tools import Tools, parse_answer, visible
from steergraph.engine.wire.tool_calls import Format, format_of, write_call

SCHEMA = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda name: name not in ("in", "is", "if", "or", "as"))
MARKS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|tool_call_start|>", "<|tool_call_end|>", "```json", "```"]
SPEECH = st.lists(st.sampled_from([*MARKS, "{", "}", '{"name": "f"', "[f(", "f(a=1)", "]"]) | st.text(max_size=6)).map(
    "".join
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=3), st.sampled_from(["hermes", "json"]))
def test_what_is_written_is_read(arguments: dict[str, Any], format: Format) -> None:
    said = parse_answer(write_call("f", arguments, format), Tools((SCHEMA,), format=format))
    assert said.calls == (("f", arguments),) and said.content == ""


@settings(max_examples=40)
@given(st.dictionaries(NAMES, JSON, max_size=3))
def test_what_is_written_in_python_is_read(arguments: dict[str, Any]) -> None:
    said = parse_answer(write_call("f", arguments, "python"), Tools((SCHEMA,), format="python"))
    # A mark inside a text would end the call, and a model can't say one there either.
    if not any(mark in str(arguments) for mark in MARKS):
        assert said.calls == (("f", arguments),)


@settings(max_examples=40)
@given(SPEECH, st.sampled_from([None, "any", "f"]))
def test_no_speech_is_an_error(text: str, choice: str | None) -> None:
    said = parse_answer(text, Tools((SCHEMA,), choice))
    assert text.startswith(said.content)


@settings(max_examples=40)
@given(SPEECH)
def test_what_was_shown_is_never_taken_back(text: str) -> None:
    content = parse_answer(text, Tools((SCHEMA,))).content
    for end in range(len(text) + 1):
        shown = text[:end][: visible(text[:end])]
        assert content.startswith(shown), (content, shown)


def test_a_parameter_called_name() -> None:
    forced = Tools((SCHEMA,), "f")
    assert parse_answer('{"name": "Ada"}', forced).calls == (("f", {"name": "Ada"}),)
    assert parse_answer('{"name": "Ada"}', Tools((SCHEMA,))).calls == ()


def test_the_models_own_way() -> None:
    assert format_of("{% if tools %}<tool_call>{% endif %}") == "hermes"
    assert format_of("<|python_tag|>") == "json"
    assert format_of("<|tool_list_start|>") == "python"
    assert format_of(None) == "hermes"


@pytest.mark.parametrize("format", ["hermes", "json", "python"])
def test_instructions_name_every_tool(format: Format) -> None:
    assert '"name": "f"' in Tools((SCHEMA,), format=format).instruction()
    assert "must call the tool f" in Tools((SCHEMA,), "f", format).instruction()
