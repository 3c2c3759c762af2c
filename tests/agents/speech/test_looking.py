"""What is looked at in an answer before it is passed on."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.policy import Policy
from steergraph.agents.speech.looking import is_echo, looked_at, whole_sentences
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Completion, Message, Request, Sampling, Usage
from steergraph.engine.scripted import ScriptedEngine

GUARD = Policy.load().guard
ISSUE = "low_items(stock, 2) leaves out what is at the limit: eggs with two left should be on the list, and are not."
ASKED = Request(messages=(Message(role="user", content=ISSUE),))


@pytest.fixture(scope="module")
def pocket() -> Iterator[LocalEngine]:
    with LocalEngine("pocket") as engine:
        yield engine


def answer(text: str, finish: str = "stop", ids: tuple[int, ...] = (5, 6)) -> Completion:
    usage = Usage(prompt_tokens=3, completion_tokens=len(ids), seconds=0.1)
    return Completion(text=text, thinking="", token_ids=ids, finish_reason=finish, usage=usage, receipt=None)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The loop is wrong. It skips the la", "The loop is wrong."),
        ("It calls `a.b(3.5)` too early", "It calls `a.b(3.5)` too early"),
        ('He said "stop." And th', 'He said "stop."'),
        ("Is it `total`? Then the las", "Is it `total`?"),
        ("One. Two.", "One. Two."),
        ("- a first point\n\n- a second po", "- a first point\n"),
        ("", ""),
        ("no end at all", "no end at all"),
    ],
)
def test_a_text_ends_at_its_last_whole_sentence(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


@given(st.text(max_size=200))
def test_what_is_kept_is_the_beginning_and_is_not_nothing(text: str) -> None:
    kept = whole_sentences(text)
    assert text.startswith(kept) and (bool(kept.strip()) or kept == text)
    assert whole_sentences(kept) == kept


def test_an_echo_says_only_what_the_prompt_said() -> None:
    assert is_echo(
        "Low_items(stock, 2) leaves out what is at the limit - eggs with two left should be on the list", [ISSUE]
    )
    assert not is_echo("`low_items` compares with `<`, so that eggs with two left are left out of the list.", [ISSUE])
    assert not is_echo("eggs with two left should be", [ISSUE])  # too short to tell
    assert not is_echo(ISSUE, ["something else that has nothing to do with any of it"])


def look(text: str, finish: str = "stop", *, note: bool = True, steered: bool = True):
    engine = ScriptedEngine(lambda request: text)
    return looked_at(engine, GUARD, ASKED, answer(text, finish), note=note, steered=steered)


def test_a_note_that_runs_to_its_limit_is_kept_up_to_its_last_sentence() -> None:
    found = look("`low_items` is wrong. It compares with `<` where", "length")
    assert (found.text, found.left_off) == ("`low_items` is wrong.", " It compares with `<` where")
    assert found.refused is None
    edit = look("`low_items` is wrong. It compares with `<` where", "length", note=False)
    assert edit.text.endswith("where") and not edit.left_off


def test_an_echo_is_told_of_notes_only() -> None:
    assert look(ISSUE).echo and not look(ISSUE, note=False).echo


def test_an_engine_without_an_opinion_is_told() -> None:
    assert "does not say what else it would have said" in str(look("It compares with `<`.").unsure)
    assert look("It compares with `<`.", steered=False).unsure is None


@pytest.mark.parametrize("finish", ["deadline", "cancelled"])
def test_what_was_ended_early_is_left_as_it_is(finish: str) -> None:
    found = look("Cut. Off he", finish)
    assert found.text == "Cut. Off he" and found.unsure is None


def test_the_unsteered_models_own_words_cost_it_nothing_and_noise_is_refused(pocket: LocalEngine) -> None:
    asked = ASKED.model_copy(update={"sampling": Sampling(max_new_tokens=24)})
    own = pocket.generate([asked])[0]
    found = looked_at(pocket, GUARD, asked, own, note=True, steered=True)
    assert found.refused is None and found.unsure is None
    noise = answer("of of a", ids=tuple(range(300, 324)))
    assert "nats a token" in str(looked_at(pocket, GUARD, asked, noise, note=True, steered=True).refused)
