"""Addresses and the steering field: what they are made of, and that no input is an error of ours."""

import pytest
from engine_help import tiny_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.engine.protocol import Message, ModelInfo
from steergraph.engine.remote.address import RemoteError, is_address, parse_address
from steergraph.engine.remote.tokens import estimate, local_chat
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.steering.records import Component, Steering
from steergraph.engine.wire.errors import error_text
from steergraph.engine.wire.steering_field import from_spec, parse_spec, to_spec
from steergraph.vectors.library import Library

INFO = ModelInfo(name="m", revision="", architecture="x", n_layers=4, hidden_size=32, window=4096, kind="instruct")
LIBRARY = Library({name: tiny_vector(INFO, name) for name in "vw"})


def test_an_address_in_full() -> None:
    text = "https://host:8443/v1/?vectors=/srv/vectors&window=8192&key=MY_KEY&timeout=30&parallel=4#Qwen/Qwen3-0.6B"
    found = parse_address(text)
    assert (found.url, found.root, found.model) == ("https://host:8443/v1", "https://host:8443", "Qwen/Qwen3-0.6B")
    assert (found.vectors, found.window, found.key) == ("/srv/vectors", 8192, "MY_KEY")
    assert (found.timeout, found.parallel, found.loopback) == (30.0, 4, False)
    assert parse_address("http://localhost:8000").url == "http://localhost:8000/v1"
    assert parse_address("http://[::1]:8000/api/v3#a%23b").loopback
    assert parse_address("http://127.0.0.1/v1#a%20b").model == "a b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://", "not an address"),
        ("http:///v1", "not an address"),
        ("http://host:99999/v1", "not an address"),
        ("http://[::1/v1", "not an address"),
        ("http://host/v1?colour=red", "'colour' is unknown"),
        ("http://host/v1?window=1&window=2", "there twice"),
        ("http://host/v1?window=", "is unknown, empty"),
        ("http://host/v1?window", "name=value"),
        ("http://host/v1?window=many", "window"),
        ("http://host/v1?window=-5", "window"),
        ("http://host/v1?parallel=0", "parallel"),
        ("http://host/v1?timeout=nan", "timeout"),
        ("http://host/v1?key=two words", "key"),
    ],
)
def test_wrong_addresses_are_one_line(text: str, words: str) -> None:
    with pytest.raises(RemoteError, match=words) as told:
        parse_address(text)
    assert "\n" not in str(told.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(RemoteError) as told:
        parse_address("http://me:hunter2@host/v1#m")
    assert "hunter2" not in str(told.value) and "STEERGRAPH_API_KEY" in str(told.value)


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    try:
        found = parse_address("http://" + text)
    except RemoteError as error:
        assert len(str(error).splitlines()) <= 1 or "\n" in text or not text.isprintable()
    else:
        assert parse_address(f"{found.url}").url == found.url


def test_what_is_an_address() -> None:
    assert is_address("http://localhost:8000/v1") and is_address("HTTPS://x")
    assert not any(map(is_address, ("pocket", "Qwen/Qwen3-0.6B", "./http", "httpx/model")))


def test_a_key_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERGRAPH_API_KEY", "sk-\nsecret")
    with pytest.raises(RemoteError) as told:
        parse_address("http://localhost:1/v1").api_key()
    assert "secret" not in str(told.value)


# --- the steering field


POSITIONS = st.sampled_from(["all", "generated", (-4, None), (-3, -1)])
COMPONENTS = st.builds(
    Component,
    vector=st.sampled_from("vw"),
    layer=st.integers(0, 3),
    alpha=st.floats(-100, 100, allow_nan=False),
    unit=st.sampled_from(["unit_vector", "raw", "residual"]),
    positions=POSITIONS,
)


@settings(max_examples=40)
@given(st.lists(COMPONENTS, min_size=1, max_size=4))
def test_what_is_asked_for_is_what_is_understood(components: list[Component]) -> None:
    spec = parse_spec(to_spec(Steering(components=tuple(components)), LIBRARY, lambda name: f"{name}.gguf"))
    back = from_spec(spec, {}, lambda source: source.removesuffix(".gguf"))
    for ours, theirs in zip(components, back.components, strict=True):
        assert (theirs.vector, theirs.layer, theirs.positions) == (ours.vector, ours.layer, ours.positions)
        raw = {"raw": 1.0, "unit_vector": 1 / 3.0, "residual": 4.0 / 3.0}[ours.unit]
        assert theirs.unit == "raw" and theirs.alpha == pytest.approx(ours.alpha * raw, rel=1e-5, abs=1e-9)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vectors", "source", "scale", "layers", "apply", "prompt", "generation", "conflict", "x"]),
            inner,
            max_size=5,
        )
    ),
)


@settings(max_examples=40)
@given(JSON)
def test_any_field_is_a_spec_or_one_line(field: object) -> None:
    try:
        parse_spec(field)
    except SteeringError as error:
        assert len(str(error).splitlines()) == 1


def test_layers_left_out_are_all_of_the_file() -> None:
    spec = parse_spec({"vectors": [{"source": "v", "scale": 2, "apply": {"prompt": "all", "generation": "all"}}]})
    steering = from_spec(spec, {"v": (1, 3)}, lambda source: source)
    assert [(one.layer, one.alpha) for one in steering.components] == [(1, 2.0), (3, 2.0)]


# --- counting and errors


def test_the_estimate_is_too_many_rather_than_too_few() -> None:
    chat = local_chat(str(_pocket()))
    for text in ("Read the issue, find the cause.", "def total(items):\n    return sum(items)\n", "é ü ß", "1 + 2 = 3"):
        messages = [Message(role="system", content="Be brief."), Message(role="user", content=text * 5)]
        assert estimate(messages) >= len(chat.prompt(messages))


def _pocket() -> object:
    from steergraph.engine.loading.weights import find_model

    return find_model("pocket")[1]


def test_a_tokenizer_that_is_not_there(tmp_path: object) -> None:
    for folder in ("/nowhere/at/all", str(tmp_path)):
        with pytest.raises(InputError, match="tokenizer="):
            local_chat(folder)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "a\\nb"}}', "a b"),
        ('{"error": "c"}', "c"),
        ('{"detail": "d"}', "d"),
        ("<html>e</html>", "<html>e</html>"),
        ("", "no reason given"),
        ("[1]", "[1]"),
        ("x" * 1000, "..."),
    ],
)
def test_errors_of_any_shape(body: str, words: str) -> None:
    assert words in error_text(body) and len(error_text(body)) <= 300
