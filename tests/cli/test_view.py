"""The terminal view: control codes made harmless, markup never read."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from steergraph.base.text import harmless
from steergraph.cli.view import View


@given(st.text())
def test_no_control_code_survives(text):
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in harmless(text))


def test_escapes_and_bidirectional_marks_are_shown():
    assert harmless("\x1b]0;title\x07 \u202e ok") == "\\u{1b}]0;title\\u{7} \\u{202e} ok"


def test_model_text_is_not_markup():
    out = io.StringIO()
    view = View(Console(file=out, width=200))
    view.show({"event": "text", "specialist": "x", "text": "[bold]not bold[/bold] \x1b[31m"})
    view.show({"event": "outcome", "status": "no_edit", "patch": None})
    assert "[bold]not bold[/bold] \\u{1b}[31m" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_terminal_says_how_long_a_slow_step_may_take():
    step = {"tokens": {"prompt": 9, "completion": 50}, "seconds": 5.0, "receipt": None, "guard": None}
    step |= {"left_off": "", "echo": False, "unsure": None}
    start = {"event": "step_start", "specialist": "patch_writing", "attempt": 0, "cut": [], "room": 512}
    start["decision"] = {"mode": "off", "reason": "because", "rule": "r"}
    for terminal, candidates, words in ((True, 1, "up to 512 tokens, 51 s at 10 tokens/s"), (False, 1, "")):
        out = io.StringIO()
        view = View(Console(file=out, width=200, force_terminal=terminal, color_system=None))
        view.show(start)
        view.show({"event": "step_end", "step": step})
        assert "up to" not in out.getvalue()  # nothing is known before a first step
        view.show({**start, "candidates": candidates})
        assert words in out.getvalue() and ("up to" in out.getvalue()) is terminal
    view.show({**start, "room": 50})
    assert "up to 50" not in out.getvalue()
