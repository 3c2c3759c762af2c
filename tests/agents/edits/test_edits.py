"""Edit blocks: the format, the bends models make, and what is refused rather than guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.edits.blocks import Edit, parse_edits, render_edit

BLOCK = "src/a.py\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE"
CHANGE = Edit(path="src/a.py", kind="change", search="old\n", replace="new\n")


def test_change_create_delete_several_files() -> None:
    text = (
        f"{BLOCK}\n\nnew.py\n<<<<<<< SEARCH\n=======\nx = 1\n\n>>>>>>> REPLACE\n\nold.py\n<<<<<<< DELETE\n"
        "empty.py\n<<<<<<< SEARCH\n=======\n>>>>>>> REPLACE\n"
    )
    parsed = parse_edits(text)
    assert parsed.problems == ()
    assert parsed.edits == (
        CHANGE,
        Edit(path="new.py", kind="create", replace="x = 1\n\n"),
        Edit(path="old.py", kind="delete"),
        Edit(path="empty.py", kind="create"),
    )


@pytest.mark.parametrize(
    "header",
    [
        "src/a.py",
        "`src/a.py`",
        "### src/a.py",
        "### `src/a.py`",
        "**src/a.py**",
        "**`src/a.py`**:",
        "src/a.py:",
        "`src/a.py`:",
        "File: src/a.py",
        "  src/a.py  ",
        "src/a.py\n```python",
        "src/a.py\n\n```",
        "```python\nsrc/a.py",
        "I change `src/a.py` as follows:",
    ],
)
def test_path_line_in_many_dresses(header: str) -> None:
    text = f"Some prose.\n{header}\n<<<<<<< SEARCH  \nold\n=======\t\nnew\n>>>>>>> REPLACE \n```\nMore prose."
    assert parse_edits(text) == parse_edits(BLOCK)
    assert parse_edits(text).edits == (CHANGE,)


def test_path_carries_over_but_not_to_a_deletion() -> None:
    second = "<<<<<<< SEARCH\nb\n=======\nc\n>>>>>>> REPLACE"
    third = second.replace("b", "d")
    parsed = parse_edits(f"{BLOCK}\nThen also this.\n{second}\nNote:\n{third}\n<<<<<<< DELETE")
    assert [edit.path for edit in parsed.edits] == ["src/a.py"] * 3
    assert parsed.problems == ("block 4 (src/a.py, line 19) deletes a file but no path stands on the line above it",)


def test_crlf_and_indented_block() -> None:
    assert parse_edits(BLOCK.replace("\n", "\r\n")).edits == (CHANGE,)
    indented = "\n".join("  " + line for line in BLOCK.split("\n"))
    assert parse_edits(indented).edits == (CHANGE,)


def test_file_names_without_suffix_and_with_spaces() -> None:
    body = "\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE"
    assert parse_edits("Makefile" + body).edits[0].path == "Makefile"
    assert parse_edits(f"{BLOCK}\nMakefile{body}").edits[1].path == "Makefile"
    assert parse_edits("`docs/my file.md`" + body).edits[0].path == "docs/my file.md"
    assert parse_edits("Here it is then" + body).problems == ("block 1 (line 2) has no path on the line above it",)


def test_numbers_go_only_where_every_line_has_one() -> None:
    head = "a.py\n<<<<<<< SEARCH\n"
    parsed = parse_edits(
        head + "12|def f():\n13|\n\n14|    return 1\n=======\n12|def f():\n13|    return 2\n>>>>>>> REPLACE"
    )
    assert parsed.edits[0].search == "def f():\n\n\n    return 1\n"
    assert parsed.edits[0].replace == "def f():\n    return 2\n"
    plain = parse_edits(head + "12|a\nb\n=======\nc\n>>>>>>> REPLACE")
    assert plain.edits[0].search == "12|a\nb\n"
    mixed = parse_edits(head + "12|a\n13|b\n=======\n12|a\nnew\n13|b\n>>>>>>> REPLACE")
    assert mixed.edits == () and "line numbers in a part of REPLACE" in mixed.problems[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.py\n<<<<<<< SEARCH\nx\n=======\ny", "block 1 (a.py, line 2) is not closed"),
        ("a.py\n<<<<<<< SEARCH\nx", "block 1 (a.py, line 2) is not closed"),
        ("a.py\n<<<<<<< SEARCH\nx\n>>>>>>> REPLACE", "block 1 (a.py, line 2) has no line ======="),
        ("a.rst\n<<<<<<< SEARCH\nA title\n=======\nx\n=======\ny\n>>>>>>> REPLACE", "more than one line ======="),
        ("a.py\n<<<<<<< SEARCH\n3|\n=======\ny\n>>>>>>> REPLACE", "searches for blank lines only"),
        ("a.py\n>>>>>>> REPLACE", "line 2: >>>>>>> REPLACE closes no block"),
        ("The function is wrong.", "no edit block found"),
        ("", "no edit block found"),
    ],
)
def test_malformed_is_reported(text: str, problem: str) -> None:
    parsed = parse_edits(text)
    assert parsed.edits == ()
    assert len(parsed.problems) == 1 and problem in parsed.problems[0]


def test_an_unclosed_block_does_not_swallow_the_next() -> None:
    parsed = parse_edits("b.py\n<<<<<<< SEARCH\nx\n=======\ny\n" + BLOCK)
    assert parsed.edits == (CHANGE,)
    assert parsed.problems == ("block 1 (b.py, line 2) is not closed with >>>>>>> REPLACE",)


def test_render_refuses_what_the_format_cannot_say() -> None:
    with pytest.raises(ValueError, match="cannot say"):
        render_edit(Edit(path="a.rst", kind="create", replace="Title 1\n=======\n"))
    with pytest.raises(ValueError, match="a change needs a SEARCH"):
        Edit(path="a.py", kind="change", replace="x")


PIECES = st.sampled_from(
    [
        *("<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "<<<<<<< DELETE", "a.py", "### b/c.py", "`my x.py`", "12|x"),
        *(
            "```python",
            "```",
            "",
            "  ",
            "\r",
            "x = 1",
            "Then:",
            "word",
            "1|2|y",
            "1|",
            "**d.py**:",
            "File: `e`",
            "\x0c",
        ),
    ]
)
MESSY = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=8))).map("\n".join)


@given(st.one_of(MESSY, st.text()))
def test_any_text_is_read_and_what_was_read_can_be_said_again(text: str) -> None:
    first = parse_edits(text)
    again = parse_edits("\n".join(render_edit(edit) for edit in first.edits))
    assert again.edits == first.edits
    assert not first.edits or again.problems == ()


@given(st.lists(st.sampled_from(["a = 1", "", "    b", "\tc ", "=", "é\u2028\x0c"]), min_size=1))
def test_edits_survive_a_round_trip(lines: list[str]) -> None:
    body = "\n".join(["first", *lines])
    edit = Edit(path="src/a.py", kind="change", search=body, replace=body[::-1].replace("\r", ""))
    assert parse_edits(render_edit(edit)).edits == (edit,)
