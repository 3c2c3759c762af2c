"""Answers held to a grammar, row by row: what is allowed, when an answer ends, and what is refused before it begins."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_help import TEXTS, ask, steer, tiny_library, tiny_loaded, walk
from pydantic import ValidationError
from tiny_models import tiny_tokenizer

from steergraph.base.errors import InputError
from steergraph.engine.constrain.compile import Grammars
from steergraph.engine.constrain.constraint import Constraint
from steergraph.engine.constrain.grammar import GRAMMAR_KINDS, Grammar, literal
from steergraph.engine.constrain.schemas import endless
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Sampling
from steergraph.engine.scripted import ScriptedEngine

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "tall": {"type": "boolean"}, "of": {"enum": ["a b", 1]}},
    "required": ["name", "tall", "of"],
    "additionalProperties": False,
}
GRAMMARS = (
    Grammar(json_schema=PERSON),
    Grammar(regex=r"[a-c]{2,5}/\d{3}"),
    Grammar(choice=("yes", "no", "no way")),
    Grammar(lark='start: "x" A+ "!"\nA: /[ab]{2}\\n/'),
)
NESTED = {"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    loaded = tiny_loaded()
    with LocalEngine(loaded, tiny_library(loaded.info)) as engine:
        yield engine


@pytest.fixture(scope="module")
def pocket() -> Iterator[LocalEngine]:
    with LocalEngine("pocket") as engine:
        yield engine


def fits(text: str, grammar: Grammar) -> bool:
    if grammar.json_schema is not None:
        value = json.loads(text)
        return set(value) == set(PERSON["required"]) and text == json.dumps(value, ensure_ascii=False)
    if grammar.choice is not None:
        return text in grammar.choice
    return bool(re.fullmatch(grammar.regex or r"x([ab]{2}\n)+!", text))


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_answer_that_ends_by_itself_fits(engine: LocalEngine, grammar: Grammar) -> None:
    greedy = [ask(text, tokens=120, grammar=grammar) for text in TEXTS]
    sampling = Sampling(temperature=1.5, top_p=0.95, max_new_tokens=120)
    sampled = [ask(grammar=grammar, sampling=sampling, seed=seed) for seed in range(6)]
    answers = engine.generate([*greedy, *sampled])
    for answer in answers:
        assert (answer.finish_reason == "stop") == bool(answer.complete)
        assert answer.finish_reason == "length" or fits(answer.text, grammar), answer.text
    assert any(answer.complete for answer in answers)


def test_rows_with_and_without_share_a_batch(engine: LocalEngine) -> None:
    free = [ask(text, steering=steer() if k % 2 else None) for k, text in enumerate(TEXTS)]
    before = engine.generate(free)
    held = ask(TEXTS[1], grammar=GRAMMARS[1], steering=steer(), tokens=40)
    together = engine.generate([free[0], held, *free[1:]])
    assert [c.token_ids for c in (together[0], *together[2:])] == [c.token_ids for c in before]
    assert [c.complete for c in before] == [None] * 4
    assert fits(together[1].text, GRAMMARS[1]) and together[1].receipt is not None


def test_the_token_limit_says_that_it_cut(engine: LocalEngine) -> None:
    (cut,) = engine.generate([ask(tokens=3, grammar=Grammar(regex="[a-z]{40}"))])
    assert (cut.finish_reason, cut.complete) == ("length", False)
    (stopped,) = engine.generate([ask(tokens=30, grammar=Grammar(regex="aaa###bbb"), stop=("###",))])
    assert (stopped.text, stopped.finish_reason, stopped.complete) == ("aaa", "stop", False)
    (late,) = engine.generate([ask(tokens=200, grammar=Grammar(regex="[a-z]{400}"), deadline_s=0.01)])
    assert (late.finish_reason, late.complete) == ("deadline", False)


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar(json_schema={"const": "a<|im_end|>b"}),
        Grammar(lark='start: "\\"a<|im_end|>" "b\\""'),
        Grammar(choice=('"a<|im_end|>b"',)),
    ],
)
def test_a_control_tokens_text_is_text(pocket: LocalEngine, grammar: Grammar) -> None:
    (answer,) = pocket.generate([ask("Say it.", tokens=40, grammar=grammar)])
    assert (answer.text, answer.finish_reason, answer.complete) == ('"a<|im_end|>b"', "stop", True)
    assert not set(answer.token_ids) & pocket.loaded.eos_ids


@pytest.mark.slow
@pytest.mark.realdata
def test_a_control_tokens_text_is_text_to_a_large_vocabulary(data: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizers" / "qwen2")
    ends = frozenset({tokenizer.eos_token_id})
    held = Grammars(tokenizer, ends).constraint(Grammar(choice=("a<|im_end|>東京🙂",)), thinks=False, may_think=False)
    assert tokenizer.decode(walk(held, len(tokenizer), ends)) == "a<|im_end|>東京🙂"


def test_json_is_written_in_one_way(pocket: LocalEngine) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}}}
    held = Grammars(tiny_tokenizer(), frozenset({2})).constraint(
        Grammar(json_schema={**schema, "required": ["a"], "additionalProperties": False}), thinks=False, may_think=False
    )
    text = tiny_tokenizer().decode(walk(held, len(tiny_tokenizer()), frozenset({2}), lambda allowed: allowed[-1]))
    assert text == json.dumps(json.loads(text)) and "  " not in text and "\n" not in text


@pytest.mark.parametrize(
    ("schema", "ends"),
    [
        ({"$ref": "#"}, False),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, True),
        ({"type": "array", "items": {"$ref": "#"}}, True),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, False),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": {"$ref": "#"}, "minItems": 1}, True),
        ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 2}]}, True),
        ({"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]}, False),
        (NESTED, True),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, False),
        ({"$defs": {"a~/b": {"enum": [1]}}, "$ref": "#/$defs/a~0~1b"}, True),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": ["object", "null"]}, True),
    ],
)
def test_a_schema_without_an_end_is_refused(engine: LocalEngine, schema: dict[str, Any], ends: bool) -> None:
    assert (endless(schema) is None) == ends
    if not ends:
        with pytest.raises(InputError, match="refers to itself without an end"):
            engine.submit(ask(grammar=Grammar(json_schema=schema)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"regex": "a("},
        {"lark": "start: nobody"},
        {"lark": "first: 'a'"},
        {"json_schema": {"type": "string", "format": "nonsense"}},
        {"json_schema": {"not": {}}},
        {"json_schema": {"enum": []}},
    ],
)
def test_a_wrong_grammar_is_one_line_before_anything_runs(engine: LocalEngine, wrong: dict[str, Any]) -> None:
    before = engine.counters.forwards
    with pytest.raises(InputError, match=r"^grammar: ") as told:
        engine.submit(ask(grammar=Grammar(**wrong)))
    assert "\n" not in str(told.value) and engine.counters.forwards == before


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"regex": "a", "choice": ["a"]},
        {"choice": []},
        {"choice": [""]},
        {"after": "a"},
        {"regex": "a", "reserve": 3},
        {"regex": "a", "optional": True},
    ],
)
def test_a_grammar_is_one_of_four(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Grammar.model_validate(wrong)


def test_free_text_comes_first_and_the_answer_comes(engine: LocalEngine) -> None:
    """Random weights: some end their turn early, some never do, and each says its letter."""
    grammar = Grammar(choice=("A", "B"), after="\n#### ", reserve=16)
    sampling = Sampling(temperature=1.0, max_new_tokens=48)
    for answer in engine.generate([ask(grammar=grammar, sampling=sampling, seed=seed) for seed in range(12)]):
        assert re.search(r"(?s)\n#### [AB]\Z", answer.text) and answer.complete, answer.text
        assert answer.finish_reason == "stop" and len(answer.token_ids) <= 48


def constraint(grammar: Grammar, **thinking: bool) -> tuple[Constraint, Any, int]:
    tokenizer = tiny_tokenizer()
    how = {"thinks": False, "may_think": False, **thinking}
    return Grammars(tokenizer, frozenset({2})).constraint(grammar, **how), tokenizer, len(tokenizer)


def test_an_end_without_the_mark_writes_what_is_left_of_it() -> None:
    held, tokenizer, width = constraint(Grammar(choice=("A",), after="\n#### "))
    said = tokenizer("so\n##")["input_ids"]
    for token in said:
        held.take(token)
    assert held.held_back() and not held.complete
    assert tokenizer.decode([*said, *walk(held, width, frozenset({2}))]) == "so\n#### A"
    assert held.complete


def test_a_token_that_says_the_mark_and_more() -> None:
    held, tokenizer, width = constraint(Grammar(choice=("total",), after="de"))
    said = tokenizer("def total")["input_ids"]  # "def" is one token: f begins no choice, so the text is free still
    for token in said:
        held.take(token)
    assert torch.equal(held.masked(torch.zeros(width), 9), torch.zeros(width)) and not held.complete
    held, tokenizer, width = constraint(Grammar(choice=("f total",), after="de"))
    for token in said:
        held.take(token)
    assert held.complete and held.over


def test_an_optional_grammar_may_be_left_out() -> None:
    grammar = Grammar(regex="[ab]", after="<think>", optional=True)
    held, tokenizer, width = constraint(grammar)
    held.take(tokenizer("so")["input_ids"][0])
    assert held.complete and not held.held_back() and not held.over
    held.take(tokenizer.convert_tokens_to_ids("<think>"))
    assert not held.complete
    assert tokenizer.decode(walk(held, width, frozenset({2}))) in ("a", "b")


@pytest.mark.parametrize("opened", [True, False])
def test_thinking_is_free(opened: bool) -> None:
    held, tokenizer, width = constraint(Grammar(regex="[ab]"), thinks=opened, may_think=True)
    inside = ["so", "</think>"] if opened else ["<think>", "so", "</think>"]
    for word in inside:
        token = tokenizer(word)["input_ids"][0]
        assert bool(held.masked(torch.zeros(width), 9)[token].isfinite())
        held.take(token)
    assert tokenizer.decode(walk(held, width, frozenset({2}))) in ("a", "b")
    held, _, _ = constraint(Grammar(regex="[ab]"), may_think=False)
    assert not bool(held.masked(torch.zeros(width), 9)[tokenizer.convert_tokens_to_ids("<think>")].isfinite())


def test_no_penalty_forbids_what_alone_is_left(engine: LocalEngine) -> None:
    sampling = Sampling(max_new_tokens=60, no_repeat_ngram_size=2, min_new_tokens=50)
    (answer,) = engine.generate([ask(grammar=Grammar(regex="(ab){9}"), sampling=sampling)])
    assert (answer.text, answer.complete) == ("ab" * 9, True)


def test_a_literal_is_a_text_whatever_it_holds() -> None:
    text = '"a\\ \t\r\n\x00\x7f\u2028🙂{}/#%<|end|>\\u0041'
    held, tokenizer, width = constraint(Grammar(lark=f"start: {literal(text)}"))
    assert tokenizer.decode(walk(held, width, frozenset({2}))) == text


def test_an_engine_says_what_it_enforces(engine: LocalEngine) -> None:
    assert engine.grammars == GRAMMAR_KINDS
    scripted = ScriptedEngine(lambda request: "maybe")
    (answer,) = scripted.generate([ask(grammar=Grammar(choice=("yes",)))])
    assert scripted.grammars == frozenset() and (answer.text, answer.complete) == ("maybe", None)


def test_a_grammar_that_would_end_the_process_is_refused_or_compiled(engine: LocalEngine) -> None:
    """A rule that leads to the next, thousands deep: more than a thread's usual stack holds."""

    def chain(length: int) -> Grammar:
        rules = [f'r{k}: "a" r{k + 1} | "b"' for k in range(length)]
        return Grammar(lark="\n".join(["start: r0", *rules, f'r{length}: "c"']))

    (answer,) = engine.generate([ask(tokens=20, grammar=chain(4000))])
    assert re.fullmatch("a*b?", answer.text)
    with pytest.raises(InputError, match="more than"):
        engine.submit(ask(grammar=chain(11_000)))
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(600):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InputError, match="too deeply nested"):
        engine.submit(ask(grammar=Grammar(json_schema=deep)))
