"""The one place that builds messages."""

import pytest

from steergraph.configs import ConfigError
from steergraph.configs.prompts import build_messages, format_passage, format_sections


def test_sections_come_in_the_order_the_specialist_reads_them() -> None:
    sections = {"feedback": "F", "notes": "N", "context": "C", "issue": "I"}
    content = build_messages("patch_writing", sections)[1]["content"]
    assert content == "Issue:\nI\n\nCode:\nC\n\nNotes:\nN\n\nFeedback on your last edit:\nF"


def test_empty_and_unread_sections_are_left_out() -> None:
    assert build_messages("bug_analysis", {"issue": "I", "context": "C", "notes": " \n"})[1]["content"] == "Issue:\nI"


def test_the_edit_format_is_filled_in_and_braces_of_the_user_stay() -> None:
    system, user = build_messages("patch_writing", {"issue": "{edit_format} {text} {x}"})
    assert "<<<<<<< SEARCH" in system["content"] and "{" not in system["content"]
    assert user["content"] == "Issue:\n{edit_format} {text} {x}"


def test_unknown_names_are_reported() -> None:
    with pytest.raises(ConfigError, match="no specialist called 'nobody'"):
        build_messages("nobody", {})
    with pytest.raises(ConfigError, match="'rumours'"):
        format_sections(["rumours"], {"rumours": "x"})


def test_a_passage_has_a_header_and_numbers() -> None:
    assert format_passage("a/b.py", 9, ["x = 1", ""]) == "### a/b.py\n9|x = 1\n10|"
