"""`steergraph serve` and the remote engine together: the same tokens as in this process, and what is refused."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from engine_help import TEXTS, ask, steer, tiny_library, tiny_loaded, tiny_vector
from remote_help import QUICK, serving, until

from steergraph.base.errors import InputError
from steergraph.engine.constrain.grammar import GRAMMAR_KINDS, Grammar
from steergraph.engine.loading.chat import Chat
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Completion, Message, Request, Sampling, ScoreRequest, Span
from steergraph.engine.remote.engine import RemoteEngine
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.steering.records import Component, Steering
from steergraph.engine.wire.steering_field import to_spec
from steergraph.vectors.formats import write_vector
from steergraph.vectors.library import Library
from steergraph.web.app import build_app
from steergraph.web.guard import max_body
from steergraph.web.server import Server
from steergraph.web.sources import Sources

ALL = {"prompt": "all", "generation": "all"}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 3}'}}],
}
BOTH = Steering(components=(*steer("v", 1, 8.0).components, *steer("w", 2, -5.0, unit="residual").components))


def steered(**entry: Any) -> dict[str, Any]:
    """A body's steering field with one vector."""
    return {"steering": {"vectors": [{"source": "v.gguf", "apply": ALL, **entry}]}}


@dataclass
class Pair:
    """One model twice: in this process, and behind a server."""

    local: LocalEngine
    remote: RemoteEngine
    behind: LocalEngine
    address: str
    client: httpx2.Client

    def post(self, path: str, body: Any, **how: Any) -> httpx2.Response:
        headers = {"Content-Type": "application/json"}
        return self.client.post(f"{self.address}/{path}", content=json.dumps(body), headers=headers, **how)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("vectors")
    loaded, other = tiny_loaded(), tiny_loaded()
    library = tiny_library(loaded.info)
    library.save(folder)
    write_vector(library["v"], folder / "v.gguf", skip_layer_0=True)
    (folder / "v.safetensors").unlink()
    with (
        LocalEngine(loaded, library) as local,
        LocalEngine(other) as behind,
        serving(behind, folder) as address,
        RemoteEngine(address, library, backoff=QUICK) as remote,
        httpx2.Client(trust_env=False, timeout=30, verify=False) as client,
    ):
        yield Pair(local, remote, behind, address, client)


def alike(pair: Pair, request: Request) -> tuple[Completion, Completion]:
    here, there = pair.local.generate([request])[0], pair.remote.generate([request])[0]
    assert there.token_ids == here.token_ids and there.text == here.text and there.thinking == here.thinking
    assert there.finish_reason == here.finish_reason
    assert there.usage.prompt_tokens == here.usage.prompt_tokens
    assert there.usage.completion_tokens == here.usage.completion_tokens
    assert there.receipt == here.receipt
    return here, there


@pytest.mark.parametrize(
    "steering",
    [
        None,
        steer(),
        steer("w", 3, 2.0, unit="raw"),
        steer("u", 0, 3.0, unit="residual", positions="generated"),
        steer("v", 2, 9.0, positions=(-3, None)),
        BOTH,
    ],
)
def test_the_same_tokens_and_the_same_receipt(pair: Pair, steering: Steering | None) -> None:
    plain = pair.local.generate([ask(TEXTS[0])])[0]
    for text in TEXTS[:2]:
        here, _ = alike(pair, ask(text, steering=steering))
    if steering is not None:
        assert pair.local.generate([ask(TEXTS[0], steering=steering)])[0].token_ids != plain.token_ids
        assert here.receipt is not None and not here.receipt.claimed


def test_the_same_sample_from_the_same_seed(pair: Pair) -> None:
    warm = Sampling(temperature=0.9, top_p=0.95, top_k=50, max_new_tokens=12)
    found = {alike(pair, ask(seed=seed, sampling=warm, steering=steer()))[0].token_ids for seed in range(3)}
    assert len(found) > 1


def test_the_same_with_penalties(pair: Pair) -> None:
    odd = Sampling(temperature=0.8, min_p=0.05, repetition_penalty=1.3, min_new_tokens=6, max_new_tokens=12)
    alike(pair, ask(sampling=odd, steering=steer()))
    for wrong in (ask(sampling=Sampling(no_repeat_ngram_size=2)), ask(steering=steer(), measure_kl=True)):
        with pytest.raises(InputError, match=r"ngram|KL"):
            pair.remote.submit(wrong)


def test_the_same_thinking(pair: Pair) -> None:
    alike(pair, ask(enable_thinking=True))


def test_the_same_from_token_ids_and_to_the_window(pair: Pair) -> None:
    alike(pair, Request(token_ids=(5, 9, 7), sampling=Sampling(max_new_tokens=5), steering=steer()))
    long = Request(token_ids=(5,) * 200, sampling=Sampling(max_new_tokens=200))
    here, _ = alike(pair, long)
    assert here.finish_reason == "length" and here.usage.completion_tokens < 200


def test_the_same_end_at_a_stop_string_and_in_spans(pair: Pair) -> None:
    text = pair.local.generate([ask(tokens=30, steering=steer())])[0].text
    assert alike(pair, ask(tokens=30, steering=steer(), stop=(text[4:6],)))[0].finish_reason == "stop"
    here, _ = alike(pair, ask(tokens=30, steering=steer(), suspend=(Span(open=text[3], close=text[12:14]),)))
    assert here.receipt is not None and len(here.receipt.steered_ranges) >= 1


def test_the_stream_is_the_text(pair: Pair) -> None:
    handle = pair.remote.submit(ask(steering=steer(), tokens=20))
    pieces = list(handle.stream())
    assert len(pieces) > 1 and "".join(pieces) == handle.result().text


@pytest.mark.slow
def test_many_at_once(pair: Pair) -> None:
    requests = [ask(TEXTS[n % 4], seed=n, steering=(None, steer(), BOTH)[n % 3]) for n in range(24)]
    here, there = pair.local.generate(requests), pair.remote.generate(requests)
    assert [one.receipt for one in here] == [one.receipt for one in there]
    same = sum(a.token_ids == b.token_ids for a, b in zip(here, there, strict=True))
    assert same >= 22  # batches differ, so a near tie may fall the other way


def test_the_same_count_and_info(pair: Pair) -> None:
    messages = [Message(role="system", content="Be brief <|end|>"), Message(role="user", content=TEXTS[2])]
    assert pair.remote.count_tokens(messages) == pair.local.count_tokens(messages)
    assert pair.remote.info == pair.local.info


@pytest.mark.parametrize("steering", [None, steer(), steer(positions="generated"), BOTH])
def test_the_same_scores(pair: Pair, steering: Steering | None) -> None:
    asked = [
        ScoreRequest(messages=(Message(role="user", content=TEXTS[0]),), continuation=text, steering=steering)
        for text in TEXTS
    ]
    for here, there in zip(pair.local.score(asked), pair.remote.score(asked), strict=True):
        assert there.token_ids == here.token_ids
        assert there.logprobs == pytest.approx(here.logprobs, abs=1e-4)
        assert (there.receipt is None) == (here.receipt is None)
        if here.receipt is not None and there.receipt is not None:
            assert there.receipt.prompt_positions == here.receipt.prompt_positions
            assert there.receipt.steered_ranges == here.receipt.steered_ranges and there.receipt.claimed


def test_a_vector_that_the_server_has_otherwise(pair: Pair, tmp_path: Path) -> None:
    """Of the same name, but another: the receipt does not say that ours was switched on."""
    library = Library({"w": tiny_vector(pair.local.info, "w", seed=99)})
    with RemoteEngine(pair.address, library, backoff=QUICK) as remote:
        done = remote.generate([ask(steering=steer("w"))])[0]
        assert done.receipt is not None and done.receipt.claimed
    unknown = Library({"x": library["w"].model_copy(update={"name": "x"})})
    with RemoteEngine(pair.address, unknown) as remote, pytest.raises(SteeringError, match="no file for vector 'x'"):
        remote.submit(ask(steering=steer("x")))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_generation(pair: Pair, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves once the model is at work, however long that took; steps are slow, so that stopping early is seen."""
    step = pair.behind._decoder.step

    def slow() -> None:
        time.sleep(0.02)
        step()

    monkeypatch.setattr(pair.behind._decoder, "step", slow)
    before = pair.behind.counters.forwards
    body = json.dumps(
        {
            "model": pair.remote.info.name,
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 200,
            "min_tokens": 200,
            "stream": stream,
        }
    )
    client = HTTPConnection(pair.address.removeprefix("http://").removesuffix("/v1"), timeout=30)
    client.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    until(lambda: pair.behind.counters.forwards > before + 1)
    client.close()
    until(lambda: not pair.behind._decoder.busy)
    assert pair.behind.counters.forwards - before < 150


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "other"}, 404, "no model called 'other'"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "critic", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content: null"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "half of a surrogate pair"),
        ({"messages": [CALLING | {"role": "user"}]}, 400, "only of the assistant's"),
        ({"messages": [CALLING | {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}, 400, "not JSON"),
        ({"messages": [CALLING | {"tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}]}, 400, "an object"),
        ({"temprature": 0.5}, 400, "temprature: there is no such field; nearest: temperature"),
        ({"do_my_thing": True}, 400, "do_my_thing: there is no such field"),
        ({"tool_choice": "required"}, 400, "tool_choice: not supported"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, "messages"),
        ({"n": 2}, 400, "n: not supported"),
        ({"tools": [{"type": "function"}]}, 400, "tools: not supported"),
        ({"response_format": {"type": "json_schema"}}, 400, "json_schema goes with type json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, 400, "without an end"),
        ({"structured_outputs": {"regex": "a("}}, 400, "grammar: "),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, 400, "exactly one of"),
        ({"structured_outputs": {"json": "{"}}, 400, "structured_outputs: "),
        ({"structured_outputs": {"structural_tag": "x"}}, 400, "structured_outputs"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, 400, "say one of them"),
        ({"guided_json": {}}, 400, "guided_json: not supported"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"steering": {"vectors": []}}, 400, "vectors"),
        ({"steering": {"vectors": [{"source": "v.gguf"}]}}, 400, "apply"),
        (steered(source="../../etc/passwd"), 400, "no source"),
        (steered(**{"layers": [99], "apply": ALL}), 400, "layer 99"),
        (steered(**{"normalize": True, "apply": ALL}), 400, "normalize"),
        (steered(**{"algorithm": "erase", "apply": ALL}), 400, "algorithm"),
        (steered(**{"apply": {"generation": "all"}}), 400, "apply"),
        (steered(**{"scale": 1e300, "layers": [1], "apply": ALL}), 400, "beyond"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_openais_shape(pair: Pair, change: dict[str, Any], status: int, words: str) -> None:
    body = {"model": pair.remote.info.name, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    answer = pair.post("chat/completions", {**body, **change})
    error = answer.json()["error"]
    assert answer.status_code == status and words in error["message"] and error["code"] == status
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("field", "pattern"),
    [
        ({"response_format": {"type": "json_object"}}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [7, 8]}}}},
            "[78]",
        ),
        ({"structured_outputs": {"json": {"enum": [7, 8]}}}, "[78]"),
        ({"structured_outputs": {"json": '{"enum": [7, 8]}'}}, "[78]"),
        ({"structured_outputs": {"json_object": True}}, None),
        ({"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"structured_outputs": {"grammar": 'start: "x" "y"?'}}, "xy?"),
        ({"response_format": {"type": "text"}}, ""),
    ],
)
def test_an_answer_of_the_shape_that_is_asked_for(pair: Pair, field: dict[str, Any], pattern: str | None) -> None:
    body = {"model": pair.remote.info.name, "messages": [{"role": "user", "content": "a"}], "max_tokens": 30, **field}
    reply = pair.post("chat/completions", body).json()
    text, report = reply["choices"][0]["message"]["content"], reply["steergraph"]
    if pattern == "":
        assert "complete" not in report
    elif pattern:
        assert re.fullmatch(pattern, text) and report["complete"]
    else:
        assert text.startswith("{") and (not report["complete"] or isinstance(json.loads(text), dict))
    lines = pair.post("chat/completions", {**body, "stream": True}).text.splitlines()
    pieces = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == text
    assert pieces[-1]["steergraph"].get("complete") == report.get("complete")


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar(json_schema={"enum": ["a", "b"]}),
        Grammar(regex="[ab]{3}"),
        Grammar(choice=("yes", "no")),
        Grammar(lark='start: "x" "y"?'),
        Grammar(regex="[a-z]{50}"),
    ],
)
def test_the_same_by_a_grammar(pair: Pair, grammar: Grammar) -> None:
    here, there = alike(pair, ask(grammar=grammar, tokens=20))
    assert here.complete is not None and there.complete == here.complete


def test_a_grammar_that_a_server_is_not_asked_for_is_one_line(pair: Pair) -> None:
    with pytest.raises(InputError, match="can't be asked for a grammar with after") as told:
        pair.remote.submit(ask(grammar=Grammar(regex="a", after="x")))
    assert "\n" not in str(told.value) and pair.remote.grammars == GRAMMAR_KINDS - {"after"}


def test_what_is_no_json_or_too_large_is_refused(pair: Pair) -> None:
    url = f"{pair.address}/chat/completions"
    json_type = {"Content-Type": "application/json"}
    with httpx2.Client(trust_env=False, verify=False) as client:
        assert client.post(url, content=b"{", headers=json_type).status_code == 400
        assert client.post(url, content=b"[" * 200_000, headers=json_type).status_code == 400
        assert client.post(url, content=b"[]", headers=json_type).status_code == 400
        assert client.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
        assert client.post(url, content=b" " * (8 * 2**20 + 1), headers=json_type).status_code == 413
        assert client.get(url).json()["error"]["code"] == 405
        assert client.get(f"{pair.address}/nothing").json()["error"]["code"] == 404


def test_what_openais_own_clients_send(pair: Pair) -> None:
    body = {
        "model": pair.remote.info.name,
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "user", "content": "a"},
        ],
        "max_completion_tokens": 3,
        "user": "somebody",
        "metadata": {},
        "frequency_penalty": 0,
        "stop": "\n\n",
        "temperature": 0,
    }  # fmt: skip
    answer = pair.post("chat/completions", body).json()
    assert answer["object"] == "chat.completion" and answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["completion_tokens"] == 3
    lines = pair.post("chat/completions", {**body, "stream": True}).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line and line != "data: [DONE]"]
    assert lines[-2] == "data: [DONE]" and all(one["object"] == "chat.completion.chunk" for one in chunks)
    assert (
        "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)
        == (answer["choices"][0]["message"]["content"])
    )
    text = pair.post("completions", {"model": body["model"], "prompt": "def total(", "temperature": 0}).json()
    assert text["object"] == "text_completion" and text["usage"]["completion_tokens"] == 16


def test_a_history_with_tools_is_said_in_words(pair: Pair) -> None:
    """A call without other content, and what the tools answered; `tool_choice` where there is nothing to choose."""
    answers = [{"role": "tool", "tool_call_id": "c1", "content": text} for text in ("7", "8")]
    said = [{"role": "user", "content": "Add."}, CALLING, *answers, {"role": "user", "content": "And?"}]
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call>'
    replies = "<tool_response>\n7\n</tool_response>\n\n<tool_response>\n8\n</tool_response>\n\nAnd?"
    words = [("user", "Add."), ("assistant", call), ("user", replies)]
    model = pair.remote.info.name
    plain = {"model": model, "messages": [{"role": role, "content": text} for role, text in words]}
    root = pair.address.removesuffix("/v1")
    tokens = [pair.client.post(f"{root}/tokenize", json={**plain, "messages": m}).json()["tokens"]
              for m in (said, plain["messages"])]  # fmt: skip
    assert tokens[0] == tokens[1]
    neutral = {"tool_choice": "auto", "parallel_tool_calls": True, "reasoning_effort": "none", "tools": []}
    body = {**plain, "max_tokens": 3, "temperature": 0}
    changes: list[dict[str, Any]] = [{}, {"messages": said, **neutral}]
    one, two = (pair.post("chat/completions", {**body, **change}).json() for change in changes)
    assert one["choices"] == two["choices"]


@pytest.mark.parametrize("texts", [True, False])
def test_several_prompts_are_several_choices(pair: Pair, texts: bool) -> None:
    """As lm-eval asks: a list of token lists."""
    body = {"model": pair.remote.info.name, "temperature": 0, "max_tokens": 6, "return_token_ids": True}
    dosed = {**body, **steered(scale=3.0, layers=[1])}
    prompts: list[Any] = ["def total(", "a b c"] if texts else [[5, 9, 7], [11, 12]]
    together = pair.post("completions", {**dosed, "prompt": prompts}).json()
    alone = [pair.post("completions", {**dosed, "prompt": one}).json() for one in prompts]
    assert [choice["index"] for choice in together["choices"]] == [0, 1]
    for choice, one in zip(together["choices"], alone, strict=True):
        assert choice["token_ids"] == one["choices"][0]["token_ids"]
        assert choice["steergraph"]["receipt"] == one["steergraph"]["receipt"]
    assert together["usage"]["prompt_tokens"] == sum(one["usage"]["prompt_tokens"] for one in alone)
    scoring = {**body, "max_tokens": 0, "prompt_logprobs": 0}
    together = pair.post("completions", {**scoring, "prompt": prompts}).json()
    alone = [pair.post("completions", {**scoring, "prompt": one}).json() for one in prompts]
    for choice, one in zip(together["choices"], alone, strict=True):
        assert len(choice["prompt_logprobs"]) == len(one["choices"][0]["prompt_logprobs"])
    assert pair.post("completions", {**body, "prompt": prompts, "stream": True}).status_code == 400
    assert pair.post("completions", {**body, "prompt": [prompts[0]] * 65}).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
def test_no_token_is_made_where_none_is_asked_for(pair: Pair, stream: bool) -> None:
    before = pair.behind.counters.forwards
    body = {"model": pair.remote.info.name, "prompt": "def total(", "max_tokens": 0, "stream": stream}
    answer = pair.post("completions", body)
    if stream:
        pieces = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        assert [piece["choices"][0]["text"] for piece in pieces] == [""] and answer.text.rstrip().endswith("[DONE]")
    else:
        told = answer.json()
        assert (told["choices"][0]["text"], told["choices"][0]["finish_reason"]) == ("", "length")
        assert told["usage"]["completion_tokens"] == 0 < told["usage"]["prompt_tokens"]
    assert pair.behind.counters.forwards == before


def test_a_model_is_retrieved_by_its_name(pair: Pair) -> None:
    name = pair.remote.info.name
    listed = pair.client.get(f"{pair.address}/models").json()["data"]
    assert pair.client.get(f"{pair.address}/models/{name}").json() == listed[0]
    assert pair.client.get(f"{pair.address}/models/org/else").json()["error"]["code"] == 404


def test_a_long_prompt_holds_nobody_else_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tokenized, for as long as that takes, beside the loop; what can't fit is refused before."""
    tokenize, begun, go_on = Chat.text, threading.Event(), threading.Event()

    def slow(chat: Chat, text: str) -> list[int]:
        if text == "slow":
            begun.set()
            assert go_on.wait(20)
        return tokenize(chat, text)

    monkeypatch.setattr(Chat, "text", slow)
    body = {"model": pair.remote.info.name, "prompt": "slow", "max_tokens": 1}
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(pair.post, "completions", body)
        assert begun.wait(20)
        assert pair.client.get(f"{pair.address.removesuffix('/v1')}/health").json() == {"status": "ok"}
        assert pair.post("completions", {**body, "prompt": "x"}).status_code == 200
        go_on.set()
        assert waiting.result(20).status_code == 200
    assert max_body(pair.remote.info.window) < 2**20
    assert pair.post("completions", {**body, "prompt": "x" * 2**20}).status_code == 413


def test_what_fails_unforeseen_is_in_the_log(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the very reason")

    monkeypatch.setattr(Chat, "text", broken)
    answer = pair.post("completions", {"model": pair.remote.info.name, "prompt": "a"})
    assert answer.status_code == 500 and "very reason" not in answer.text
    assert "the very reason" in caplog.text


def test_a_server_that_ends_tells_everybody_so() -> None:
    """A stream gets an error event, who waits for a whole answer 503."""
    with LocalEngine(tiny_loaded()) as engine:
        app = build_app(engine, Sources.load(None, engine.info))
        said: list[str] = []
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=5)
        server = Server(config, started=lambda: said.append("listening"), ending=engine.close)
        listening = socket.create_server(("127.0.0.1", 0))
        step = engine._decoder.step
        engine._decoder.step = lambda: (time.sleep(0.05), step())[1]  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: said)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        messages = [{"role": "user", "content": "a"}]
        body = {"model": engine.info.name, "messages": messages, "min_tokens": 200, "max_tokens": 200}
        with ThreadPoolExecutor() as pool, httpx2.Client(trust_env=False, timeout=30, verify=False) as client:
            asked = [pool.submit(client.post, url, json={**body, "stream": stream}) for stream in (True, False)]
            until(lambda: engine.counters.forwards > 3)
            server.should_exit = True
            stream, whole = (one.result(20) for one in asked)
        thread.join(20)
    last = json.loads(stream.text.strip().splitlines()[-1].removeprefix("data: "))
    assert (last["error"]["code"], last["error"]["message"]) == (503, "the server is going down")
    assert whole.status_code == 503 and whole.json()["error"]["message"] == "the server is going down"


def test_the_api_describes_itself(pair: Pair) -> None:
    root = pair.address.removesuffix("/v1")
    described = pair.client.get(f"{root}/openapi.json").json()
    assert {
        "/health",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/chat/completions",
        "/v1/completions",
        "/tokenize",
    } == set(described["paths"])
    assert "steering" in described["components"]["schemas"]["ChatBody"]["properties"]
    assert pair.client.get(f"{root}/docs").status_code == 200


def test_key_hosts_and_the_number_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalEngine(tiny_loaded(), max_batch=1) as engine:
        how: dict[str, Any] = {"key": "s3cret", "max_requests": 1, "hosts": ["127.0.0.1"], "name": "mine"}
        with serving(engine, **how) as address:
            get = httpx2.get(f"{address}/models", trust_env=False, verify=False)
            for scheme in ("Bearer", "bearer", "BEARER"):  # HTTP's schemes have no case
                headers = {"Authorization": f"{scheme} s3cret"}
                assert (
                    httpx2.get(f"{address}/models", headers=headers, trust_env=False, verify=False).status_code == 200
                )
            assert get.status_code == 401 and "API key" in get.json()["error"]["message"]
            with pytest.raises(InputError, match="STEERGRAPH_API_KEY is not set"):
                RemoteEngine(address)
            monkeypatch.setenv("STEERGRAPH_API_KEY", "s3cret")
            with RemoteEngine(f"{address}?retries=0#mine", backoff=QUICK) as remote:
                first = remote.submit(ask(tokens=240))
                next(first.stream())
                with pytest.raises(InputError, match="status 429"):
                    remote.submit(ask()).result(20)
                first.result(30)
                assert remote.submit(ask()).result(20).finish_reason in ("stop", "length")
            stranger = httpx2.get(f"{address}/models", headers={"Host": "evil.example"}, trust_env=False, verify=False)
            assert stranger.status_code == 400


def test_the_folder_of_vectors_is_checked_at_the_start(tmp_path: Path) -> None:
    info = tiny_loaded().info
    with pytest.raises(InputError, match="no such folder"):
        Sources.load(tmp_path / "nowhere", info)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"broken\.gguf"):
        Sources.load(tmp_path, info)
    (tmp_path / "broken.gguf").unlink()
    other = tiny_library(info)["v"].model_copy(update={"model": "another", "revision": "0" * 16})
    write_vector(other, tmp_path / "v.gguf", layers=(1,))
    with pytest.raises(InputError, match="made for another"):
        Sources.load(tmp_path, info)


def test_a_spec_names_only_what_is_asked(pair: Pair) -> None:
    spec = to_spec(BOTH, pair.local.library, lambda name: f"{name}.gguf")
    assert [one["source"] for one in spec["vectors"]] == ["v.gguf", "w.gguf"] and spec["conflict"] == "sequential"
    assert Component(vector="v", layer=1, alpha=spec["vectors"][0]["scale"], unit="raw").alpha == pytest.approx(8 / 3)
