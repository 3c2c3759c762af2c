"""More edits as people report them broken: found by trying what the first tests of each kind do not have."""

import pytest
from test_reported import BODY, applied, refused, result

from steergraph.agents.edits.blocks import parse_edits
from steergraph.agents.edits.patch import apply_edits, standing_in

LINE = "allowed = role in ROLES and not expired(token, now) or root\n"
PART = "allowed = role in ROLES and not expired(token, now)"


def test_the_rest_of_a_line_never_moves_to_another() -> None:
    refused(LINE, PART, "allowed = role in ROLES\nlog(allowed)")
    refused(f"stop()\n{LINE}", f"stop()\n{PART}", "stop()\nallowed = role in ROLES\nlog(allowed)")
    assert result("function f(a) {\n}\n", "function f(a)", "function f(a, b) {\n  log(a);") == (
        "function f(a, b) {\n  log(a);\n}\n"
    )


@pytest.mark.parametrize(("there", "written"), [('"\t"', '" "'), ('"a  b"', '"a b"'), ("'x  '", "'x '")])
def test_white_space_inside_strings_is_the_files(there: str, written: str) -> None:
    text = f"k = row.split({there}, 1)\n"
    assert result(text, f"k = row.split({written}, 1)", f"k = row.split({written}, 2)") == text.replace("1", "2")


def test_lines_that_trade_places_are_not_merged_by_their_place() -> None:
    text = "stop(x)\nok = ready(x) or root\n"
    refused(text, "stop(x)\nok = ready(x)", "ok = always(x)\nstart(x)")
    assert result(text, "stop(x)\nok = ready(x)", "halt(x)\nok = always(x)") == "halt(x)\nok = always(x) or root\n"


def test_a_line_without_its_comma_is_not_put_among_lines_with_one() -> None:
    text = 'names = [\n    "alpha",\n    "beta",\n    "gamma",\n]\n'
    assert "comma" in refused(text, '"alpha"\n"beta"\n"gamma"', '"alpha"\n"delta"\n"beta"\n"gamma"')
    new = result(text, '"alpha"\n"beta"\n"gamma"', '"alpha"\n"delta",\n"beta"\n"gamma"')
    assert new == text.replace('"alpha",\n', '"alpha",\n    "delta",\n')


@pytest.mark.parametrize("line", ["=====", "======="])
def test_a_heading_in_a_search_with_a_slip_is_refused_or_found(line: str) -> None:
    text = f"Stock\n{line}\n\nKeeps count.\n"
    block = BODY.format(f"Stock\n{line}\n\nKeeps counts.", f"Stock\n{line}\n\nKeeps all counts.")
    parsed = parse_edits(f"a.rst\n{block}", ["a.rst"], standing_in({"a.rst": text}.get))
    assert not parsed.edits and "more than one line" in parsed.problems[0]


FOUR = "def f(a):\n    b = a\n    c = b\n    return c\n"


@pytest.mark.parametrize(
    "note",
    [
        "# unchanged",
        "# same as before",
        "# keep existing code",
        "# omitted for brevity",
        "# rest unchanged",
        "# (no changes)",
        "# [existing code]",
        "# other methods",
        "# ⋮",
        "...existing code...",
        "// [Rest of the code remains unchanged]",
        "{/* rest of component */}",
        "/* existing */",
        "REM ... existing code ...",
        "! ... existing code ...",
        "pass  # ... existing code ...",
    ],
)
def test_a_note_in_the_place_of_code_deletes_nothing(note: str) -> None:
    assert "leaves code out" in refused(FOUR, FOUR, f"def f(a):\n    {note}\n    return c + 1\n")
    kept = result(FOUR, FOUR, f"def f(a):\n    {note}\n    return c\n    # end\n")
    assert kept == f"{FOUR}    # end\n"


def test_a_note_stays_where_nothing_is_gone() -> None:
    new = FOUR.replace("    c = b\n", "    c = b\n    # unchanged\n")
    assert result(FOUR, FOUR, new) == new
    other = FOUR.replace("    c = b\n", "    c = 2 * b  # the rest\n")
    assert result(FOUR, FOUR, other) == other
    assert applied(FOUR, "    c = b\n", "    # keep the list sorted\n    c = 2 * b\n").problems == ()


PATHS = ["a/old.py", "b/new.py", "stock.py", "p/__init__.py"]


@pytest.mark.parametrize(
    ("above", "path"),
    [
        ("`a/old.py`\nEverything in it is in b/new.py now:", "a/old.py"),
        ("a/old.py", "a/old.py"),
        ("This goes, a/old.py:", "a/old.py"),
        ("Of a/old.py and b/new.py this goes:", None),
        ("Everything in a/old.py is in b/new.py now:", None),
    ],
)
def test_the_file_that_is_deleted_is_the_one_that_is_meant(above: str, path: str | None) -> None:
    parsed = parse_edits(f"{above}\n<<<<<<< DELETE", PATHS)
    assert [edit.path for edit in parsed.edits] == ([path] if path else [])
    assert path or "can't be told which" in parsed.problems[0] or "no path" in parsed.problems[0]


def test_a_new_file_beside_one_that_is_named_is_the_new_one() -> None:
    text = "Next to `p/__init__.py` add `p/shelf.py`:\n<<<<<<< SEARCH\n=======\nNEW = 1\n>>>>>>> REPLACE"
    assert [edit.path for edit in parse_edits(text, PATHS).edits] == ["p/shelf.py"]
    both = text.replace("add `p/shelf.py`", "and `a/old.py`")
    assert not parse_edits(both, PATHS).edits


@pytest.mark.parametrize(
    "dress", ["../a/old.py", "~/repo/a/old.py", "a//old.py", "a/./old.py", "https://h/o/r/a/old.py"]
)
@pytest.mark.parametrize(
    "marker", ["<<<<<<< SEARCH", "<<<<<<< [SEARCH]", "<<<<<<< `SEARCH`", "<<<<<<< FIND", "<<< SEARCH"]
)
def test_more_dresses_of_paths_and_markers(dress: str, marker: str) -> None:
    text = f"{dress}\n{marker}\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE"
    parsed = parse_edits(text, PATHS)
    assert apply_edits(parsed.edits, {"a/old.py": "x = 1\n"}.get).after == {"a/old.py": "x = 2\n"}
