"""SteeredChat: steering call by call, its receipt, streams, tools and structured answers, and what it refuses."""

import asyncio
import json
import operator
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
from engine_help import steer, tiny_library, tiny_loaded
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel
from remote_help import QUICK, serving

from steergraph import SteeredChat
from steergraph.base.errors import InputError
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request
from steergraph.engine.remote.engine import RemoteEngine
from steergraph.engine.scripted import ScriptedEngine

QUESTION = "Read the issue, find the cause, name the file"


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info), deterministic=True) as engine:
        yield engine


@pytest.fixture
def chat(engine: LocalEngine) -> SteeredChat:
    return SteeredChat(engine=engine, max_tokens=12)


@tool
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@tool
def now() -> str:
    """The time."""
    return "noon"


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def scripted(text: str, **fields: Any) -> tuple[SteeredChat, ScriptedEngine]:
    engine = ScriptedEngine(lambda request: text)
    return SteeredChat(engine=engine, **fields), engine


# --- steering


def test_steering_call_by_call_leaves_nothing_behind(chat: SteeredChat) -> None:
    before = chat.invoke(QUESTION)
    steered = chat.bind(steering=steer()).invoke(QUESTION)
    assert steered.content != before.content and before.response_metadata["steering"] is None
    receipt = steered.response_metadata["steering"]
    (component,) = receipt["components"]
    assert (component["vector"], component["layer"], component["alpha"]) == ("v", 1, 8.0)
    assert receipt["generated_positions"] == steered.usage_metadata["output_tokens"] == 12
    assert receipt["prompt_positions"] == steered.usage_metadata["input_tokens"]
    json.dumps(steered.response_metadata)
    assert chat.invoke(QUESTION).content == before.content


def test_every_way_to_steer_is_the_same(chat: SteeredChat, engine: LocalEngine) -> None:
    as_dict = {"components": [{"vector": "v", "layer": 1, "alpha": 4.0}]}
    wanted = SteeredChat(engine=engine, max_tokens=12, steering=steer(alpha=4.0)).invoke(QUESTION).content
    assert chat.bind(steering=as_dict).invoke(QUESTION).content == wanted
    assert chat.invoke(QUESTION, steering=steer(alpha=2.0), dose=2).content == wanted
    configurable = SteeredChat(engine=engine, max_tokens=12, steering=steer(alpha=8.0)).configurable_fields(
        dose=ConfigurableField(id="dose"), steering=ConfigurableField(id="steering")
    )
    assert configurable.invoke(QUESTION, config={"configurable": {"dose": 0.5}}).content == wanted
    assert configurable.with_config(configurable={"steering": as_dict}).invoke(QUESTION).content == wanted
    off = configurable.invoke(QUESTION, config={"configurable": {"dose": 0.0}})
    assert off.content == chat.invoke(QUESTION).content and off.response_metadata["steering"] is None
    always = SteeredChat(engine=engine, max_tokens=12, steering=steer(alpha=4.0))
    assert always.invoke(QUESTION, steering=None).content == off.content


def test_seed_temperature_stop_and_limit(chat: SteeredChat) -> None:
    warm = chat.bind(temperature=0.9)
    assert warm.invoke(QUESTION, seed=1).content == warm.invoke(QUESTION, seed=1).content
    assert len({warm.invoke(QUESTION, seed=seed).content for seed in range(4)}) > 1
    text = chat.invoke(QUESTION).content
    assert chat.invoke(QUESTION, stop=[text[5:8]]).content == text[: text.index(text[5:8])]
    assert chat.invoke(QUESTION, max_tokens=3).usage_metadata["output_tokens"] == 3
    assert chat.invoke(QUESTION, max_tokens=3).response_metadata["finish_reason"] == "length"


def test_batches_mix_steered_and_unsteered(chat: SteeredChat) -> None:
    runs = [chat.bind(steering=steer()), chat, chat.bind(steering=steer("w", 2))]
    alone = [run.invoke(QUESTION).content for run in runs]
    together = asyncio.run(_gather([run.ainvoke(QUESTION) for run in runs * 3]))
    assert [message.content for message in together] == alone * 3


async def _gather(work: list[Any]) -> list[AIMessage]:
    return list(await asyncio.gather(*work))


# --- streams


async def test_streams_say_the_same_and_end_with_the_receipt(chat: SteeredChat) -> None:
    steered = chat.bind(steering=steer())
    whole = steered.invoke(QUESTION)
    chunks = list(steered.stream(QUESTION))
    later = [chunk async for chunk in steered.astream(QUESTION)]
    for found in (chunks, later):
        assert len(found) > 2
        joined = reduce(operator.add, found)
        assert joined.content == whole.content and joined.usage_metadata == whole.usage_metadata
        assert joined.response_metadata["steering"] == whole.response_metadata["steering"]
        assert joined.response_metadata["finish_reason"] == "length"


async def test_leaving_a_stream_stops_the_generation(chat: SteeredChat, engine: LocalEngine) -> None:
    async for _ in chat.bind(max_tokens=200).astream(QUESTION):
        break
    for _ in chat.bind(max_tokens=200).stream(QUESTION):
        break
    before = engine.counters.forwards
    await chat.ainvoke("a", max_tokens=1)  # waits for the queue
    assert engine.counters.forwards - before < 100


async def test_cancelling_the_call_cancels_the_generation(
    chat: SteeredChat, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    submit, loop = engine.submit, asyncio.get_running_loop()

    def submitting(request: Request) -> Any:
        handle = submit(request)
        loop.call_soon_threadsafe(begun.set)
        return handle

    monkeypatch.setattr(engine, "submit", submitting)
    task = asyncio.create_task(chat.ainvoke(QUESTION, max_tokens=240))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_graph_streams_its_messages(chat: SteeredChat) -> None:
    def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [chat.bind(steering=steer()).invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak").add_edge("speak", END).compile()
    given: Any = {"messages": [HumanMessage(QUESTION)]}
    pieces = [chunk.content for chunk, _ in graph.stream(given, stream_mode="messages")]
    assert len(pieces) > 2


def test_thinking_stands_apart() -> None:
    chat, _ = scripted("<think>\nhm\n</think>\n\nyes it is")
    joined = reduce(operator.add, chat.stream("?"))
    assert joined.content.strip() == "yes it is"


# --- the other engine


def test_the_same_over_a_server(chat: SteeredChat, engine: LocalEngine, tmp_path: Any) -> None:
    engine.library.save(tmp_path)
    with (
        LocalEngine(tiny_loaded(), deterministic=True) as behind,
        serving(behind, tmp_path) as address,
        RemoteEngine(address, engine.library, backoff=QUICK) as remote,
    ):
        there = SteeredChat(engine=remote, max_tokens=12)
        for run in ({}, {"steering": steer()}, {"steering": steer("u", 2, positions="generated")}):
            one, two = chat.invoke(QUESTION, **run), there.invoke(QUESTION, **run)
            assert one.content == two.content and one.usage_metadata == two.usage_metadata
            assert one.response_metadata == two.response_metadata
        named = SteeredChat(model=address, vectors=str(tmp_path), max_tokens=12)
        try:
            assert named.invoke(QUESTION, steering=steer()).content == chat.invoke(QUESTION, steering=steer()).content
            assert named.configurable_fields(seed=ConfigurableField(id="seed")).invoke(QUESTION).content
            assert len(named.engines._open) == 1
        finally:
            named.close()


# --- tools


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        CALL.removesuffix("</tool_call>"),
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 2}"}</tool_call>',
        "<tool_call>{'name': 'add', 'arguments': {'a': 1, 'b': 2}}</tool_call>",
        '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}',
        '{"name": "add", "parameters": {"a": 1, "b": 2}}',
        '```json\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n```',
        '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": 2}}]',
        "<|tool_call_start|>[add(a=1, b=2)]<|tool_call_end|>",
        "[add(a=1, b=2)]",
        '{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}',
    ],
)
def test_calls_however_they_are_written(text: str) -> None:
    chat, engine = scripted(text)
    bound = chat.bind_tools([add, now])
    for said in (bound.invoke("1 + 2?"), reduce(operator.add, bound.stream("1 + 2?"))):
        assert [(call["name"], call["args"]) for call in said.tool_calls] == [("add", {"a": 1, "b": 2})]
        assert said.content == "" and not said.invalid_tool_calls
    system = (engine.requests[0].messages or ())[0]
    assert system.role == "system" and '"name": "add"' in system.content and '"name": "now"' in system.content


def test_words_before_calls_and_several_calls() -> None:
    chat, _ = scripted(f'Two things.\n{CALL}\n<tool_call>\n{{"name": "now"}}\n</tool_call>')
    bound = chat.bind_tools([add, now])
    chunks = list(bound.stream("?"))
    joined = reduce(operator.add, chunks)
    assert bound.invoke("?").content == joined.content == "Two things."
    assert [call["name"] for call in joined.tool_calls] == ["add", "now"]
    assert "".join(chunk.content for chunk in chunks) == "Two things."


def test_a_call_that_can_not_be_read_is_told_of() -> None:
    said = scripted("<tool_call>\nadd 1 and 2\n</tool_call>")[0].bind_tools([add]).invoke("?")
    assert not said.tool_calls and said.invalid_tool_calls[0]["args"] == "add 1 and 2"


@pytest.mark.parametrize(
    "text", ["No tool is needed {honestly}.", "a [list] of things", '{"name": "rm", "arguments": {}}']
)
def test_what_is_no_call_is_text(text: str) -> None:
    bound = scripted(text)[0].bind_tools([add])
    assert bound.invoke("?").content == text and not bound.invoke("?").tool_calls
    assert reduce(operator.add, bound.stream("?")).content == text


def test_nothing_that_is_said_is_run(tmp_path: Any) -> None:
    text = f"[add(a=__import__('pathlib').Path({str(tmp_path / 'x')!r}).touch(), b=2)]"
    assert not scripted(text)[0].bind_tools([add]).invoke("?").tool_calls
    assert not (tmp_path / "x").exists()


def test_an_agents_turns_in_words() -> None:
    chat, engine = scripted("It is 3.")
    first = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
    failed = ToolMessage("no", tool_call_id="1", status="error")
    chat.bind_tools([add]).invoke([SystemMessage("Be kind."), HumanMessage("1 + 2?"), first, failed, HumanMessage("?")])
    system, user, assistant, answer = engine.requests[0].messages or ()
    assert system.content.startswith("Be kind.\n\nYou may call tools.")
    assert (user.content, assistant.content) == ("1 + 2?", CALL)
    assert answer.role == "user" and answer.content == "<tool_response>\nError: no\n</tool_response>\n\n?"


def test_steering_is_off_where_programs_read() -> None:
    spoken: list[Request] = []

    class Spy(ScriptedEngine):
        def submit(self, request: Request) -> Any:
            spoken.append(request)
            return super().submit(request)

    spy = SteeredChat(engine=Spy(lambda request: '{"name": "x", "age": 1}'), steering=steer())
    spy.invoke("?")
    spy.bind_tools([add, now]).invoke("?")
    spy.with_structured_output(Person).invoke("?")
    spy.with_structured_output(Person, method="json_schema").invoke("?")
    spy.bind_tools([add], suspend=False).invoke("?")
    opened = [[span.open for span in request.suspend] for request in spoken]
    assert opened == [[], ["<tool_call>"], ["<tool_call>", "{"], ["{"], []]


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_structured_answers(method: Any) -> None:
    chat, _ = scripted('Here:\n```json\n{"name": "Ada", "age": 36}\n```')
    assert chat.with_structured_output(Person, method=method).invoke("?") == Person(name="Ada", age=36)
    raw = chat.with_structured_output(Person, method=method, include_raw=True).invoke("?")
    assert raw["parsed"] == Person(name="Ada", age=36) and raw["parsing_error"] is None
    assert isinstance(raw["raw"], AIMessage)


def test_a_missed_shape_is_an_error_that_says_so() -> None:
    chat, _ = scripted('{"name": "Ada"}')
    with pytest.raises(OutputParserException):
        chat.with_structured_output(Person, method="json_schema").invoke("?")
    raw = chat.with_structured_output(Person, method="json_schema", include_raw=True).invoke("?")
    assert raw["parsed"] is None and raw["parsing_error"] is not None
    assert scripted("I'd rather not.")[0].with_structured_output(Person).invoke("?") is None


FIVES = {
    "title": "Fives",
    "description": "A number.",
    "type": "object",
    "properties": {"n": {"type": "integer", "multipleOf": 5}, "deep": {}},
    "required": ["n"],
}


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [Person, FIVES], ids=["class", "dict"])
def test_an_answer_that_was_cut_off_is_not_parsed(method: Any, schema: Any) -> None:
    """Not even where what is there could be saved, or reads as if it were whole."""
    for text in ('{"name": "Ada", "age": 3, "n": 5', '{"name": "Ada", "age": 3, "n": 5}'):
        engine = ScriptedEngine(lambda request, text=text: text, finish_reason="length")
        chat = SteeredChat(engine=engine)
        with pytest.raises(OutputParserException, match="cut off by its token limit"):
            chat.with_structured_output(schema, method=method).invoke("?")
        raw = chat.with_structured_output(schema, method=method, include_raw=True).invoke("?")
        assert raw["parsed"] is None and "cut off" in str(raw["parsing_error"])


def test_a_tool_call_that_was_cut_off_is_no_call() -> None:
    text = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2'
    cut = SteeredChat(engine=ScriptedEngine(lambda request: text, finish_reason="length")).bind_tools([add])
    answer = cut.invoke("?")
    assert not answer.tool_calls and "cut off" in (answer.invalid_tool_calls[0]["error"] or "")
    whole = SteeredChat(engine=ScriptedEngine(lambda request: f"{text}}}}}\n</tool_call> and", finish_reason="length"))
    assert whole.bind_tools([add]).invoke("?").tool_calls[0]["args"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 4',
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "4',
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "4\n</tool_call>',
        '```json\n{"name": "add", "arguments": {"a": 1, "b": 4',
        '{"name": "add", "arguments": {"a": 1, "b": 4',
    ],
)
def test_a_call_that_the_model_left_open_is_no_call(text: str) -> None:
    """It may have meant to say 41."""
    answer = scripted(text)[0].bind_tools([add]).invoke("?")
    assert not answer.tool_calls
    assert "</tool_call>" in text or all(one["error"] == "it is not closed" for one in answer.invalid_tool_calls)
    mended = scripted('<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 4\n</tool_call>')[0].bind_tools([add])
    assert mended.invoke("?").tool_calls[0]["args"] == {"a": 1, "b": 4}


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_a_dictionary_is_held_to_its_schema(method: Any) -> None:
    assert scripted('{"n": 10}')[0].with_structured_output(FIVES, method=method).invoke("?") == {"n": 10}
    for text in ('{"n": 4}', '{"n": "x"}', '{"deep": 1}'):
        with pytest.raises(OutputParserException, match="does not fit its schema"):
            scripted(text)[0].with_structured_output(FIVES, method=method).invoke("?")
    with pytest.raises(InputError, match="the schema is none"):
        scripted("{}")[0].with_structured_output({**FIVES, "properties": {"n": {"type": "fives"}}}, method=method)


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_json_that_is_not_whole_or_nested_too_deep_is_an_error_of_the_parser(method: Any) -> None:
    for text in ('{"n": 5', '{"n": 5, "deep": ' + "[" * 5000 + "]" * 5000 + "}", "[" * 5000, "no JSON"):
        with pytest.raises(OutputParserException):
            scripted(text)[0].with_structured_output(FIVES, method=method).invoke("?")


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_what_is_no_json_is_not_parsed(method: Any) -> None:
    with pytest.raises(OutputParserException, match="NaN is no JSON"):
        scripted('{"n": NaN}')[0].with_structured_output(FIVES, method=method).invoke("?")


@given(st.integers(1, 100), st.integers(0, 300), st.integers(0, 40))
def test_what_is_returned_fits_and_was_said_whole(step: int, n: int, cut: int) -> None:
    text = json.dumps({"n": n})
    said = text[: len(text) - cut] if cut else text
    schema = {**FIVES, "properties": {"n": {"type": "integer", "multipleOf": step}}}
    chat = scripted(said)[0].with_structured_output(schema, method="json_schema", include_raw=True)
    whole = not cut and n % step == 0
    assert chat.invoke("?")["parsed"] == ({"n": n} if whole else None)


# --- what it refuses


def test_bad_input_is_one_line(chat: SteeredChat) -> None:
    for wrong in (
        {"steering": steer("nobody")},
        {"steering": {"components": []}},
        {"steering": "math"},
        {"max_tokens": 0},
        {"temperature": "hot"},
        {"dose": float("nan"), "steering": steer()},
        {"logit_bias": {}},
        {"model": "another"},
    ):
        with pytest.raises(InputError) as told:
            chat.invoke(QUESTION, **wrong)
        assert "\n" not in str(told.value)
    image = HumanMessage([{"type": "image", "url": "http://x/y.png"}])
    for messages in ([], [image]):
        with pytest.raises(InputError):
            chat.invoke(messages)
    with pytest.raises(InputError, match="tool_choice 'mul'"):
        chat.bind_tools([add], tool_choice="mul")


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such field: steerin"):
        SteeredChat(steerin=steer())  # type: ignore[call-arg]


def test_two_steerings_are_two_entries_of_a_cache(engine: LocalEngine) -> None:
    one, two = (SteeredChat(engine=engine, steering=steer(alpha=alpha))._identifying_params for alpha in (1.0, 2.0))
    assert one != two and "engine" in one
    json.dumps(one)


def test_tokens_are_the_models_own(chat: SteeredChat, engine: LocalEngine) -> None:
    messages = [SystemMessage("Be kind."), HumanMessage(QUESTION)]
    assert chat.get_num_tokens_from_messages(messages) == chat.invoke(messages).usage_metadata["input_tokens"]
    assert chat.get_num_tokens(QUESTION) > 5 and chat.get_num_tokens("") == 0
    other, _ = scripted("hi")
    bound = other.bind_tools([add]).invoke(messages)
    assert other.get_num_tokens_from_messages(messages, tools=[add]) == bound.usage_metadata["input_tokens"]
