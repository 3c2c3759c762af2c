"""Reading answers, and the guard that looks at what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.policy import Policy, repetition
from steergraph.agents.speech.answers import extract_answer, format_question

GUARD = Policy.load().guard


@pytest.mark.parametrize(
    ("text", "choices", "answer"),
    [
        ("2 + 3 = 5\n#### 5", (), "5"),
        ("#### 1,234\nno, wait\n#### 7", (), "7"),
        ("so it costs $1,250.50 in all", (), "1250.50"),
        ("nothing", (), None),
        ("#### B", ("x", "y"), "B"),
        ("#### (b).", ("x", "y"), "B"),
        ("#### y", ("x", "y"), "B"),
        ("the answer is (A).", ("x", "y"), "A"),
        ("The answer is: B", ("x", "y"), "B"),
        ("the answer is (J)", ("x", "y"), None),
        ("a 5 here", ("x", "y"), None),
        ("the answer is apples", ("x", "y"), None),
    ],
)
def test_extract_answer(text, choices, answer):
    assert extract_answer(text, choices) == answer


@given(st.text(), st.lists(st.text(max_size=5), max_size=10))
def test_extract_answer_never_raises_and_stays_among_the_choices(text, choices):
    answer = extract_answer(text, choices)
    if choices and answer is not None:
        assert answer in "ABCDEFGHIJ"[: len(choices)]


def test_choices_are_lettered():
    assert format_question("Which?", ["one", "two"]) == "Which?\nOptions:\nA. one\nB. two"


def test_the_guard_refuses_empty_repeating_and_strange_text():
    assert "empty" in GUARD.refusal(" \n")
    assert "repetition" in GUARD.refusal("the bug is in the bug " * 20)
    assert "0.61 nats a token (at most 0.5)" in GUARD.refusal("is a is a of a", 0.61)
    assert GUARD.refusal("The loop in `total` skips the last item.", 0.49) is None
    assert GUARD.refusal("The loop in `total` skips the last item.") is None


@given(st.text(alphabet="ab ", max_size=400))
def test_repetition_is_a_share(text):
    assert 0.0 <= repetition(text) <= 1.0
