"""Prompts never run past the window, and what was cut is said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.agents.specialists import Roster
from steergraph.agents.speech.budget import fit, room_for_context
from steergraph.base.errors import InputError
from steergraph.engine.scripted import ScriptedEngine

ROSTER = Roster.load()
PATCH = ROSTER["patch_writing"]
COUNT = ScriptedEngine(lambda request: "").count_tokens
TEXT = st.lists(st.text(alphabet="ab c.", max_size=60), max_size=60).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["issue", "context", "notes", "feedback"]), TEXT),
    st.integers(min_value=PATCH.max_new_tokens + 90, max_value=900),
)
def test_prompt_and_answer_fit_the_window(sections, window):
    prompt = fit(PATCH, sections, COUNT, window)
    assert prompt.tokens == COUNT(prompt.messages)
    assert prompt.tokens + prompt.max_new_tokens <= window
    cut = {c.section: c for c in prompt.cut}
    for name, text in sections.items():
        kept = prompt.sections[name]
        assert (kept == text.strip("\n")) == (name not in cut)
        if name in cut:
            assert cut[name].kept_characters == len(kept)


def test_a_long_issue_leaves_half_the_room_to_context():
    issue = "\n".join(f"line {i} of a long report" for i in range(400))
    context = "### a.py\n1|def f():\n2|    return 1"
    prompt = fit(PATCH, {"issue": issue, "context": context}, COUNT, 700)
    assert prompt.sections["context"] == context
    assert prompt.sections["issue"].startswith("line 0 of") and prompt.sections["issue"].endswith(
        "line 399 of a long report"
    )
    assert "[...]" in prompt.sections["issue"]


def test_room_for_context_is_what_is_left():
    room = room_for_context(PATCH, {"issue": "It fails."}, COUNT, 1024)
    words = "\n".join(["word"] * room)
    prompt = fit(PATCH, {"issue": "It fails.", "context": words}, COUNT, 1024)
    assert prompt.cut == ()
    assert 0 <= 1024 - prompt.tokens - PATCH.max_new_tokens <= 2


def test_a_window_too_small_for_the_prompt_alone_is_one_line():
    with pytest.raises(InputError, match="window of 280"):
        fit(PATCH, {"issue": "x"}, COUNT, 280)


def test_one_line_without_breaks_is_cut_within():
    prompt = fit(ROSTER["bug_analysis"], {"issue": "word " * 3000}, COUNT, 400)
    assert prompt.tokens <= 400 - 80 and prompt.sections["issue"]
