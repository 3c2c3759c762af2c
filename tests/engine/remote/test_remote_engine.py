"""RemoteEngine against real HTTP: what it sends, how it waits, tries again, gives up, is cancelled and closes."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from engine_help import ask, steer, tiny_vector
from remote_help import QUICK, Handler, Scripted, chunk, cut, drips, fails, hangs, says, sse, until

from steergraph.base.errors import InputError
from steergraph.engine.constrain.grammar import Grammar
from steergraph.engine.local import EngineClosed
from steergraph.engine.opening import open_engine
from steergraph.engine.protocol import (
    Completion,
    Engine,
    Message,
    ModelInfo,
    Request,
    Sampling,
    ScoreRequest,
    Span,
)
from steergraph.engine.remote.address import RemoteError
from steergraph.engine.remote.client import MAX_EVENT
from steergraph.engine.remote.engine import RemoteEngine
from steergraph.engine.remote.tokens import estimate
from steergraph.engine.steering.directions import SteeringError
from steergraph.vectors.library import Library

HELLO = says(chunk("Hel"), chunk("lo"), chunk(finish="stop", usage={"prompt_tokens": 7, "completion_tokens": 2}))
INFO = ModelInfo(name="m", revision="", architecture="other", n_layers=4, hidden_size=32, window=4096, kind="instruct")


def engine(address: str, library: Library | None = None) -> RemoteEngine:
    return RemoteEngine(address, library, backoff=QUICK)


def said(*script: Callable[[Handler], None], options: str = "", request: Request | None = None) -> Completion:
    with Scripted(*script) as address, engine(address + options) as remote:
        return remote.submit(request or ask()).result(20)


def test_a_completion_from_a_plain_server() -> None:
    server = Scripted(HELLO)
    with server as address, engine(address) as remote:
        protocol: Engine = remote
        assert (protocol.info.name, protocol.info.window, protocol.info.n_layers) == ("m", 4096, 0)
        handle = protocol.submit(
            ask("Hi", seed=3, stop=("END",), sampling=Sampling(temperature=0.5, top_p=0.9, max_new_tokens=5))
        )
        assert list(handle.stream()) == ["Hel", "lo"]
        done = handle.result()
    assert (done.text, done.finish_reason, done.receipt) == ("Hello", "stop", None)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (7, 2)
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_token_ids_go_to_the_plain_endpoint() -> None:
    server = Scripted(says({"choices": [{"text": "x", "finish_reason": "length"}]}))
    with server as address, engine(address) as remote:
        done = remote.generate([Request(token_ids=(1, 2, 3))])[0]
    assert (done.text, done.finish_reason, done.usage.prompt_tokens) == ("x", "length", 3)
    assert server.seen[0][0] == "/v1/completions" and server.seen[0][2]["prompt"] == [1, 2, 3]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_it_tries_again_and_succeeds(status: int) -> None:
    assert said(fails(status, Retry_After="0"), fails(status), HELLO).text == "Hello"


def test_it_gives_up_after_the_retries() -> None:
    server = Scripted(fails(503, "over\nloaded"))
    words = pytest.raises(RemoteError, match=r"status 503: over loaded \(3 attempts\)")
    with server as address, engine(address + "?retries=2") as remote, words as told:
        remote.submit(ask()).result(20)
    assert len(server.seen) == 3 and "\n" not in str(told.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_the_callers_own_fault_is_told_once(status: int) -> None:
    server = Scripted(fails(status, "this and that"))
    with server as address, engine(address) as remote, pytest.raises(RemoteError, match="this and that"):
        remote.submit(ask()).result(20)
    assert len(server.seen) == 1


def test_a_cut_stream_goes_on_where_it_was() -> None:
    with Scripted(cut(chunk("Hel")), HELLO) as address, engine(address) as remote:
        handle = remote.submit(ask())
        assert "".join(handle.stream()) == "Hello" == handle.result().text


def test_a_stream_that_ends_without_a_finish_is_a_cut_one() -> None:
    assert said(says(chunk("Hel"), done=False), HELLO).text == "Hello"


def test_another_answer_after_a_cut_is_an_error() -> None:
    with pytest.raises(RemoteError, match="another one"):
        said(cut(chunk("Good")), HELLO)


def test_a_stream_that_is_always_cut() -> None:
    with pytest.raises(RemoteError, match=r"cut off.*\(2 attempts\)"):
        said(cut(chunk("Hel")), options="?retries=1")


def test_nothing_for_too_long() -> None:
    server = Scripted(hangs)
    with server as address, engine(address + "?timeout=0.2") as remote:
        with pytest.raises(RemoteError, match=r"nothing came for 0\.2 s"):
            remote.submit(ask()).result(20)
        until(server.gone.is_set)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"data: {not json\n\n", "not JSON"),
        (b"data: [1, 2]\n\n", "another shape"),
        (b'data: {"choices": "none"}\n\n', "another shape"),
        (b'data: {"choices": [{"delta": {"content": 5}}]}\n\n', "another shape"),
        (b'data: {"error": {"message": "bad prompt", "code": 400}}\n\n', "bad prompt"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not JSON"),
        (b"", "cut off"),
        (b"<html>busy</html>", "cut off"),
    ],
)
def test_answers_of_no_use(body: bytes, words: str) -> None:
    with pytest.raises(RemoteError, match=words) as told:
        said(lambda handler: handler.send(200, body, "text/event-stream"), options="?retries=0")
    assert "\n" not in str(told.value)


def test_an_event_that_has_no_end() -> None:
    def step(handler: Handler) -> None:
        handler.begin_stream()
        handler.write_chunk(b"data: ")
        with suppress(OSError):
            while True:
                handler.write_chunk(b"x" * 2**20)

    with pytest.raises(RemoteError, match=f"an event of more than {MAX_EVENT} bytes"):
        said(step)


def test_events_however_they_are_cut() -> None:
    data = b": ping\r\nevent: x\r\n" + sse(chunk("H\u00e9l"), chunk("lo", "stop")).replace(b"\n", b"\r\n")

    def step(handler: Handler) -> None:
        handler.begin_stream()
        for place in range(0, len(data), 3):
            handler.write_chunk(data[place : place + 3])
        handler.write_chunk(b"")

    assert said(step).text == "H\u00e9llo"


def test_nothing_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: secret")
    server = Scripted(HELLO)
    with server as address, engine(address) as remote:
        remote.submit(ask()).result(20)
    assert "secret" not in str(server.seen) and "Authorization" not in server.seen[0][1]


def test_an_error_inside_a_stream_that_may_pass() -> None:
    assert said(says({"error": {"message": "busy", "code": 503}}), HELLO).text == "Hello"


def test_a_server_that_does_not_stream() -> None:
    whole = {
        "choices": [{"message": {"content": "Hello", "reasoning_content": "hm"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    done = said(lambda handler: handler.send(200, json.dumps(whole).encode()))
    assert (done.text, done.thinking, done.usage.completion_tokens) == ("Hello", "hm", 3)


def test_thoughts_that_the_servers_template_opened_are_no_answer() -> None:
    """An edit that was drafted in them would else be applied."""
    draft = "a.py\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n"
    done = said(says(chunk(f"Maybe\n{draft}"), chunk("no.\n</think>\n\nNo edit."), chunk(finish="stop")))
    assert (done.text, done.thinking) == ("No edit.", f"Maybe\n{draft}no.")


def test_a_second_choice_is_passed_over() -> None:
    def second(text: str) -> dict[str, Any]:
        return {"choices": [{"index": 1, "delta": {"content": text}, "finish_reason": "length"}]}

    done = said(says(second("an"), chunk("Hel"), second("other"), chunk("lo"), chunk(finish="stop"), second("one")))
    assert (done.text, done.finish_reason) == ("Hello", "stop")


def test_reasoning_is_thinking_and_stands_in_the_stream() -> None:
    def delta(**fields: Any) -> dict[str, Any]:
        return {"choices": [{"delta": fields, "finish_reason": None}]}

    script = says(delta(reasoning="one "), delta(reasoning="two"), delta(content="three"), chunk(finish="stop"))
    with Scripted(script) as address, engine(address) as remote:
        handle = remote.submit(ask())
        assert "".join(handle.stream()) == "<think>one two</think>three"
        assert (handle.result().text, handle.result().thinking) == ("three", "one two")


def test_line_ends_of_python_inside_an_answer() -> None:
    odd = "a\u2028b\x85c\x0cd\re"
    body = f"data: {json.dumps(chunk(odd, 'stop'), ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n"
    assert said(lambda handler: handler.send(200, body.encode(), "text/event-stream")).text == odd


def test_cancelling_closes_the_connection() -> None:
    server = Scripted(drips())
    with server as address, engine(address) as remote:
        handle = remote.submit(ask())
        next(handle.stream())
        handle.cancel()
        done = handle.result(20)
        assert done.finish_reason == "cancelled" and done.text.startswith("word")
        until(server.gone.is_set)
        assert done.usage.completion_tokens >= 1 and done.usage.prompt_tokens == estimate(ask().messages or ())


async def test_cancelling_the_task_that_waits() -> None:
    server = Scripted(drips())
    with server as address, engine(address) as remote:
        handle = remote.submit(ask())

        async def wait() -> None:
            await handle

        task = asyncio.create_task(wait())
        await asyncio.to_thread(next, handle.stream())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(until, server.gone.is_set)


def test_cancelled_before_it_was_sent() -> None:
    with Scripted(drips(), HELLO) as address, engine(address + "?parallel=1") as remote:
        first = remote.submit(ask())
        next(first.stream())
        second = remote.submit(ask())
        second.cancel()
        assert second.result(20).finish_reason == "cancelled"
        first.cancel()
        assert remote.submit(ask()).result(20).text == "Hello"


def test_a_deadline_ends_with_what_there_is() -> None:
    server = Scripted(drips())
    with server as address, engine(address) as remote:
        done = remote.submit(ask(deadline_s=1.5)).result(20)
        assert done.finish_reason == "deadline" and done.text.startswith("word ")
        until(server.gone.is_set)


def test_a_deadline_counts_the_retries() -> None:
    done = said(fails(503, Retry_After="30"), request=ask(deadline_s=0.2))
    assert (done.finish_reason, done.text) == ("deadline", "")


def test_no_more_at_a_time_than_allowed() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def step(handler: Handler) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        handler.begin_stream()
        threading.Event().wait(0.03)
        with lock:
            now[0] -= 1
        handler.write_chunk(sse(chunk("x", "stop")))
        handler.write_chunk(b"")

    with Scripted(step) as address, engine(address + "?parallel=3") as remote:
        done = remote.generate([ask(seed=number) for number in range(12)])
    assert [one.text for one in done] == ["x"] * 12 and most[0] == 3


def test_closing_fails_what_runs_and_what_comes() -> None:
    server = Scripted(drips())
    with server as address:
        remote = engine(address + "?parallel=1")
        running, waiting = remote.submit(ask()), remote.submit(ask())
        next(running.stream())
        remote.close()
        for handle in (running, waiting):
            with pytest.raises(EngineClosed):
                handle.result(20)
        for late in (lambda: remote.submit(ask()), lambda: remote.generate([ask()])):
            with pytest.raises(EngineClosed):
                late()
        remote.close()
        until(server.gone.is_set)


def test_the_key_goes_into_the_header_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    caplog.set_level(logging.DEBUG)
    server = Scripted(HELLO, fails(401, "who are you"))
    with server as address, engine(address + "?key=MY_KEY") as remote:
        remote.submit(ask()).result(20)
        assert server.seen[0][1]["Authorization"] == "Bearer sk-very-secret"
        with pytest.raises(RemoteError, match="MY_KEY was refused") as told:
            remote.submit(ask()).result(20)
        shown = [str(told.value), repr(told.value), repr(vars(remote)), repr(vars(remote._client)), caplog.text]
    captured = capfd.readouterr()
    assert "very-secret" not in "".join([*shown, captured.out, captured.err])


def test_no_other_server_gets_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERGRAPH_API_KEY", "sk-very-secret")
    other = Scripted(HELLO)
    with other as elsewhere:
        moved = Scripted(lambda handler: handler.send(307, b"", Location=f"{elsewhere}/chat/completions"))
        with moved as address, engine(address) as remote, pytest.raises(RemoteError, match="redirects"):
            remote.submit(ask()).result(20)
    assert not other.seen


def test_no_server_there() -> None:
    with Scripted(HELLO) as address:
        pass
    with pytest.raises(RemoteError, match=r"no connection.*\(2 attempts\)"):
        engine(address + "?retries=1")


@pytest.mark.parametrize(
    ("models", "name", "words"),
    [
        ({"data": []}, "", "it has none"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, "", "say which model behind a #; it has a, b"),
        ({"data": [{"id": "a"}]}, "#c", "no model called 'c'; it has a"),
        ({"data": "x"}, "", "not a list of models"),
        ([1], "", "not a list of models"),
    ],
)
def test_which_model(models: Any, name: str, words: str) -> None:
    with Scripted(HELLO, models=models) as address, pytest.raises(RemoteError, match=words):
        engine(address + name)


def test_a_gateway_without_a_list_takes_the_name_as_given() -> None:
    server = Scripted(HELLO, models={})
    with server as address, engine(address + "?window=999#some/model") as remote:
        assert (remote.info.name, remote.info.window) == ("some/model", 999)
        remote.submit(ask()).result(20)
    assert server.seen[0][2]["model"] == "some/model"


def vllm(handler_step: Callable[[Handler], None] = HELLO) -> Scripted:
    return Scripted(handler_step, models={"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 2048}]})


def test_what_vllm_would_fill_in_by_itself_is_off() -> None:
    server = vllm(says({"choices": [{"delta": {"content": "x"}, "token_ids": [5], "finish_reason": "stop"}]}))
    with server as address, engine(address) as remote:
        assert remote.info.window == 2048
        assert remote.submit(ask(enable_thinking=True)).result(20).token_ids == (5,)
    body = server.seen[0][2]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert body["chat_template_kwargs"] == {"enable_thinking": True} and body["return_token_ids"]


def test_a_grammar_in_the_words_of_the_server() -> None:
    grammars = {
        "json": Grammar(json_schema={"enum": [1]}),
        "regex": Grammar(regex="a+"),
        "choice": Grammar(choice=("a", "b")),
    }
    for server in (vllm(), Scripted(HELLO)):
        with server as address, engine(address) as remote:
            for grammar in grammars.values():
                if grammar.kinds <= remote.grammars:
                    assert remote.submit(ask(grammar=grammar)).result(20).complete is None  # nobody has checked
                else:
                    with pytest.raises(InputError, match="can't be asked for a grammar"):
                        remote.submit(ask(grammar=grammar))
            with pytest.raises(InputError, match="grammar with lark"):
                remote.submit(ask(grammar=Grammar(lark='start: "a"')))
        bodies = [body for _, _, body in server.seen]
        if len(bodies) == len(grammars):
            said = {"json": {"enum": [1]}, "regex": "a+", "choice": ["a", "b"]}
            assert [body["structured_outputs"] for body in bodies] == [{key: said[key]} for key in grammars]
        else:
            schema = {"name": "answer", "schema": {"enum": [1]}, "strict": True}
            assert [body["response_format"] for body in bodies] == [{"type": "json_schema", "json_schema": schema}]


def test_counting_with_the_server() -> None:
    server = vllm(lambda handler: handler.send(200, b'{"count": 11, "max_model_len": 2048, "tokens": [1]}'))
    messages = [Message(role="user", content="Hi")]
    with server as address, engine(address) as remote:
        assert [remote.count_tokens(messages) for _ in range(3)] == [11] * 3
    ((path, _, body),) = server.seen
    assert path == "/tokenize" and body["messages"] == [{"role": "user", "content": "Hi"}]
    assert body["add_generation_prompt"] is True


def test_counting_where_the_server_turns_out_not_to() -> None:
    server = vllm(fails(404))
    messages = [Message(role="user", content="Hi")]
    with server as address, engine(address) as remote:
        assert [remote.count_tokens(messages) for _ in range(2)] == [estimate(messages)] * 2
    assert len(server.seen) == 1


# --- steering


def library() -> Library:
    return Library({name: tiny_vector(INFO, name, model="", revision="") for name in "vw"})


def test_a_plain_server_is_not_asked_to_steer() -> None:
    server = Scripted(HELLO)
    with server as address, engine(address, library()) as remote:
        with pytest.raises(SteeringError, match="does not steer"):
            remote.submit(ask(steering=steer()))
        with pytest.raises(SteeringError, match="does not steer"):
            remote.generate([ask(), ask(steering=steer())])
        with pytest.raises(InputError, match="no vector called"):
            remote.submit(ask(steering=steer("nobody")))
    assert not [body for _, _, body in server.seen if "steering" in body]


def test_easysteers_field() -> None:
    server = vllm()
    with server as address, engine(address + "?vectors=store/vectors", library()) as remote:
        assert remote.server.kind == "easysteer" and (remote.info.n_layers, remote.info.hidden_size) == (4, 32)
        done = remote.submit(ask(steering=steer(alpha=6.0))).result(20)
        generated = remote.submit(ask(steering=steer(alpha=2.0, unit="residual", positions="generated"))).result(20)
        for wrong in (steer(operation="ablate"), steer(layer=4), steer(positions=(2, 5))):
            with pytest.raises(SteeringError):
                remote.submit(ask(steering=wrong))
        with pytest.raises(SteeringError, match="suspend"):
            remote.submit(ask(steering=steer(), suspend=(Span(open="a", close="b"),)))
    one, two = (body["steering"]["vectors"][0] for _, _, body in server.seen)
    assert one == {
        "source": "store/vectors/v.gguf",
        "scale": pytest.approx(2.0),  # 6 times a direction of length 3 that is made length 1
        "layers": [1],
        "normalize": False,
        "apply": {"prompt": "all", "generation": "all"},
    }
    assert two["apply"] == {"prompt_positions": [-1], "generation": "all"}
    assert two["scale"] == pytest.approx(2.0 * 4.0 / 3.0)
    assert "conflict" not in server.seen[0][2]["steering"]
    receipt = done.receipt
    assert receipt is not None and receipt.claimed
    assert (receipt.prompt_positions, receipt.generated_positions, receipt.steered_ranges) == (7, 2, ((0, 8),))
    (component,) = receipt.components
    assert component.vector_hash == library()["v"].hash and component.relative_dose == pytest.approx(1.5)
    assert generated.receipt is not None
    assert (generated.receipt.prompt_positions, generated.receipt.steered_ranges) == (1, ((6, 8),))


def test_scoring_needs_a_server_that_can() -> None:
    with Scripted(HELLO) as address, engine(address) as remote, pytest.raises(RemoteError, match="can't score"):
        remote.score([ScoreRequest(token_ids=(1,), continuation=(2,))])


def test_scoring_as_vllm_does() -> None:
    scored = {
        "choices": [
            {
                "text": "",
                "prompt_logprobs": [
                    None,
                    {"2": {"logprob": -1.5, "rank": 3}},
                    {"7": {"logprob": -0.25}, "9": {"logprob": -0.05}},
                ],
            }
        ]
    }
    server = vllm(lambda handler: handler.send(200, json.dumps(scored).encode()))
    with server as address, engine(address) as remote:
        (found,) = remote.score([ScoreRequest(token_ids=(1, 2), continuation=(7,))])
        assert (found.logprobs, found.token_ids, found.receipt) == ((-0.25,), (7,), None)
        assert found.likeliest == (-0.05,) and found.regret == pytest.approx(0.2)
        with pytest.raises(RemoteError, match="not those of the prompt"):
            remote.score([ScoreRequest(token_ids=(1, 2), continuation=(8,))])
    body = server.seen[0][2]
    assert (body["prompt"], body["prompt_logprobs"], body["max_tokens"]) == ([1, 2, 7], 1, 1)


def test_an_address_opens_a_remote_engine() -> None:
    with Scripted(HELLO) as address, open_engine(address + "#m") as remote:
        assert isinstance(remote, RemoteEngine)
