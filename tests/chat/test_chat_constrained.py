"""Calls and JSON held to their schemas by an engine in this process: random weights, and the answers can be read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
from engine_help import tiny_library, tiny_loaded, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from tiny_models import tiny_tokenizer

from steergraph import SteeredChat
from steergraph.base.errors import InputError
from steergraph.chat.constrained import closed, shape_grammar, tool_grammar
from steergraph.chat.tools import Tools, parse_answer
from steergraph.engine.constrain.compile import Grammars
from steergraph.engine.local import LocalEngine

GRAMMARS = Grammars(tiny_tokenizer(), frozenset({2}))
NAMES = Literal["Ada", "Grace"]


class Tree(BaseModel):
    """A tree."""

    name: NAMES
    leaves: list["Tree"] = Field(max_length=1)


class Person(BaseModel):
    """Somebody."""

    name: NAMES
    tall: bool


SCHEMA = Person.model_json_schema()


@tool
def add(a: Literal[1, 2], b: bool) -> int:
    """The sum of two numbers."""
    return a + b


@tool
def now() -> str:
    """The time."""
    return "noon"


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    loaded = tiny_loaded()
    loaded = replace(loaded, info=loaded.info.model_copy(update={"window": 2048}))  # schemas are long in 400 tokens
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        yield engine


@pytest.fixture
def chat(engine: LocalEngine) -> SteeredChat:
    return SteeredChat(engine=engine, max_tokens=100, temperature=1.5)


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_structured_answer_has_its_shape(chat: SteeredChat, method: Any, seed: int) -> None:
    chat = SteeredChat(engine=chat.engine, max_tokens=100, temperature=1.5, seed=seed)
    found = chat.with_structured_output(Person, method=method, include_raw=True).invoke("Who?")
    assert isinstance(found["parsed"], Person) and found["raw"].response_metadata["complete"] is True


def test_json_mode_is_an_object(chat: SteeredChat) -> None:
    said = chat.invoke("?", json_schema={}).content
    assert isinstance(said, str) and said.startswith("{")


def test_a_shape_that_was_cut_off_says_so(chat: SteeredChat) -> None:
    raw = chat.invoke("?", json_schema=SCHEMA, max_tokens=2)
    assert raw.response_metadata["finish_reason"] == "length" and raw.response_metadata["complete"] is False


def test_a_call_that_must_come_comes(chat: SteeredChat) -> None:
    for choice, names in (("add", {"add"}), ("any", {"add", "now"})):
        said = chat.bind_tools([add, now], tool_choice=choice).invoke("?", max_tokens=200)
        if said.response_metadata["complete"]:
            assert said.tool_calls and {call["name"] for call in said.tool_calls} <= names
            assert not said.invalid_tool_calls and not said.content
        else:
            assert said.response_metadata["finish_reason"] == "length"
    json_chat = SteeredChat(engine=chat.engine, max_tokens=100, tool_format="json")
    (call,) = json_chat.bind_tools([add], tool_choice="any").invoke("?").tool_calls
    assert set(call["args"]) == {"a", "b"} and call["args"]["a"] in (1, 2)


def test_a_call_that_may_come_is_free_until_it_does(chat: SteeredChat) -> None:
    free = chat.invoke("?", constrain=False)
    said = chat.bind_tools([add]).invoke("?", constrain=False)
    held = chat.bind_tools([add]).invoke("?")
    assert (held.content, held.tool_calls) == (said.content, said.tool_calls)
    assert free.response_metadata["complete"] is None and held.response_metadata["complete"] is True


def test_free_again_on_request(chat: SteeredChat) -> None:
    said = chat.invoke("?", json_schema=SCHEMA, constrain=False)
    assert said.response_metadata["complete"] is None


def test_a_schema_that_can_not_be_enforced_is_one_line(chat: SteeredChat) -> None:
    with pytest.raises(InputError, match="grammar: Unknown format"):
        chat.invoke("?", json_schema={"type": "string", "format": "nonsense"})


def test_a_schema_that_refers_to_itself(engine: LocalEngine) -> None:
    chat = SteeredChat(engine=engine, max_tokens=150)
    found = chat.with_structured_output(Tree, method="json_schema", include_raw=True).invoke("?")
    assert isinstance(found["parsed"], Tree) or found["raw"].response_metadata["finish_reason"] == "length"


def test_what_is_closed() -> None:
    inner = {"type": "object", "properties": {"properties": {"type": "string"}}}
    shape = {"properties": {"a": inner}, "$defs": {"d": inner}, "default": inner, "allOf": [inner]}
    done = closed(shape)
    assert done["properties"]["a"]["additionalProperties"] is False
    assert done["$defs"]["d"]["additionalProperties"] is False
    assert "additionalProperties" not in done and done["default"] == inner and done["allOf"] == [inner]
    assert done["properties"]["a"]["properties"] == inner["properties"]
    assert closed({**inner, "additionalProperties": True})["additionalProperties"] is True


def test_formats_without_a_grammar() -> None:
    schema = {"name": "f", "parameters": SCHEMA}
    assert (
        tool_grammar(Tools((schema,), "f", "python")) is None and tool_grammar(Tools((schema,), None, "json")) is None
    )
    assert shape_grammar({}).json_schema == {"type": "object"}


@settings(max_examples=30, deadline=None)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), choice=st.sampled_from(["any", None]))
def test_names_may_hold_anything(name: str, choice: str | None) -> None:
    schema = {
        "name": name,
        "parameters": {"type": "object", "properties": {name: {"enum": [name]}}, "required": [name]},
    }
    tools, tokenizer = Tools((schema,), choice or name), tiny_tokenizer()
    grammar = tool_grammar(tools)
    assert grammar is not None
    held = GRAMMARS.constraint(grammar, thinks=False, may_think=False)
    said = parse_answer(tokenizer.decode(walk(held, len(tokenizer), frozenset({2}))), tools)
    assert said.calls == ((name, {name: name}),) and not said.broken and not said.content
