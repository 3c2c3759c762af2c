"""Edits as people report them broken elsewhere: what was lost or spoilt there is done right here, or said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.edits.blocks import Edit, parse_edits
from steergraph.agents.edits.elision import Elided, filled, is_placeholder
from steergraph.agents.edits.merge import merged, same
from steergraph.agents.edits.patch import Applied, apply_edits, standing_in, unified_diff

FILES = {
    "pantry/stock.py": "def low(items):\n    return items\n",
    "pantry/prices.py": "RATE = 2\n",
    "stock.py": "x = 1\n",
    "docs/my notes.md": "Old\n",
    "pages/[id].tsx": "const a = 1\n",
    "web/app.js": "let a = 1\n",
    "README.rst": "Title\n=======\n\nold text\n",
}
BODY = "<<<<<<< SEARCH\n{}\n=======\n{}\n>>>>>>> REPLACE"


def applied(text: str, search: str, replace: str) -> Applied:
    return apply_edits([Edit(path="a.py", kind="change", search=search, replace=replace)], {"a.py": text}.get)


def result(text: str, search: str, replace: str) -> str | None:
    found = applied(text, search, replace)
    assert found.problems == (), found.problems
    return found.after["a.py"]


def refused(text: str, search: str, replace: str) -> str:
    found = applied(text, search, replace)
    assert found.after == {} and len(found.problems) == 1
    return found.problems[0]


# --- a SEARCH that is not quite the file's ----------------------------------------------------------------------------

LINE = "    allowed = role in ROLES and not expired(token, now) or root\n"


def test_the_rest_of_a_line_that_search_has_only_a_part_of_stays() -> None:
    part = "allowed = role in ROLES and not expired(token, now)"
    new = "allowed = role in ROLES and not expired(token)"
    assert result(f"a\n{LINE}b\n", part, new) == f"a\n    {new} or root\nb\n"
    found = applied(f"a\n{LINE}b\n", part, new)
    assert found.matched[0].how == "part" and "line 2" in (found.matched[0].inexact or "")


@pytest.mark.parametrize(
    ("line", "search", "replace", "after"),
    [
        ("def low(items):", "def low(items)", "def low(items, limit)", "def low(items, limit):"),
        ("def low(items):", "def low(items)", "def low(items, limit):", "def low(items, limit):"),
        ("    name,", "name", "name.strip()", "    name.strip(),"),
        ("    name,", "name", "name.strip(),", "    name.strip(),"),
        ("x = f(value))", "f(value)", "g(f(value))", "x = g(f(value)))"),
        ("total = 1  # of all", "total = 1", "total = 2", "total = 2  # of all"),
        ("total = a + b", "total = a", "total = a + b + c", "total = a + b + c"),
        ("total = a + b", "a + b", "total = a - b", "total = a - b"),
        ("if ready and done:", "ready and done", "ready or done", "if ready or done:"),
        ("return load(v)", "load(v)", "returned(v)", "return returned(v)"),
        ("return load(v)", "load(v)", "return loaded(v)", "return loaded(v)"),
        ("await run(v)", "run(v)", "awaitable(v).run()", "await awaitable(v).run()"),
        ("    - cost", "cost", "-5 + cost", "    - -5 + cost"),
        ("x = a + b", "x = a", "x = a + bcd", "x = a + bcd + b"),
        ("x = a + b", "x = a", "x = c + b", "x = c + b"),
    ],
)
def test_a_part_of_one_line_is_replaced_inside_it(line: str, search: str, replace: str, after: str) -> None:
    assert result(f"first\n{line}\nlast\n", search, replace) == f"first\n{after}\nlast\n"


def test_a_part_of_several_lines_or_of_a_word_is_no_place() -> None:
    assert "part of what stands at lines 1 and 2" in refused("f(a) + 1\nf(a) + 2\n", "f(a)", "g(a)")
    assert "not in the file" in refused("subtotal = 1\n", "total", "x")
    assert "changes what differs" in refused("name,\n", "name", "")


def test_an_invented_line_never_deletes_one_of_the_file() -> None:
    body = ("check(order)", "audit(order)", "for item in order:", "    ship(item)", "log(order)", "return True")
    file = "".join(f"{line}\n" for line in ("def close(order):", *(f"    {line}" for line in body)))
    search = file.replace("    audit(order)\n", "    total = 0\n")
    assert "not in the file" in refused(file, search, search.replace("    total = 0\n", ""))
    assert "not in the file" in refused(file, search, search.replace("return True", "return False"))


def test_what_both_sides_changed_is_refused_and_what_one_did_is_merged() -> None:
    assert merged("total = sum(value)", "total = sum(values)", "total = sum(value) + 1") == "total = sum(values) + 1"
    assert merged("total = sum(value)", "total = sum(values)", "total = max(value)") == "total = max(values)"
    assert merged("total = sum(value)", "total = sum(values)", "total = sum(item)") is None
    file = "def total(values):\n    result = sum(values) / len(values)\n    return result\n"
    search = "def total(value):\n    result = sum(values)/len(values)\n    return result"
    assert "line 1 is `def total(values):`" in refused(file, search, search.replace("(value)", "(items)"))
    assert result(file, search, search.replace("return result", "return round(result)")) == file.replace(
        "return result", "return round(result)"
    )


WORDS = st.sampled_from(["total", "value", "(", ")", ",", ":", " ", "+", "limit", "items", "=", "1"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=8).map("".join), min_size=1, max_size=6)


@given(TEXTS, st.data())
def test_no_line_that_search_did_not_name_ever_changes(lines: list[str], data: st.DataObject) -> None:
    """Whatever SEARCH gets wrong: outside its place nothing changes, and within it no word is lost that it lacked."""
    start = data.draw(st.integers(0, len(lines) - 1))
    stop = data.draw(st.integers(start + 1, len(lines)))
    bends = [[line, line + "x", line[:-1], line.replace("total", "sum")] for line in lines[start:stop]]
    search = [data.draw(st.sampled_from(ways)) for ways in bends]
    replace = data.draw(st.lists(st.sampled_from([*search, "new()"]), max_size=4))
    text = "".join(f"{line}\n" for line in lines)
    found = apply_edits(
        [Edit(path="a", kind="change", search="\n".join(search), replace="\n".join(replace))]
        if any(line.strip() for line in search)
        else [],
        {"a": text}.get,
    )
    if "a" not in found.after:
        return
    at = found.matched[0].line - 1
    named = len([line for line in search if line.strip()]) if found.matched[0].how != "exact" else len(search)
    after = (found.after["a"] or "").split("\n")
    assert after[:at] == lines[:at]
    rest = [*lines[at + max(named, 1) :], ""]
    assert not rest or after[len(after) - len(rest) :] == rest or len(search) != named
    how, written = found.matched[0].how, [line for line in search if line.strip()]
    for mine, theirs in zip(written, lines[at:], strict=False):
        if how == "similar" and not same(mine, theirs) and replace.count(mine) == 1 == search.count(mine):
            assert theirs in after  # REPLACE leaves the line alone, so the file's own stays
    if how == "part":
        before, _, behind = lines[at].partition(written[0].strip())
        assert all(char in "".join(after[at:]) for char in (before + behind).strip())


# --- edits that were lost ---------------------------------------------------------------------------------------------

STOCK = BODY.format("    return items", "    return sorted(items)")
NAMED = [
    *("```python pantry/stock.py\n{}\n```", "```pantry/stock.py\n{}\n```", "```python:pantry/stock.py\n{}\n```"),
    *('```python title="pantry/stock.py"\n{}\n```', "```{{.python file=pantry/stock.py}}\n{}\n```"),
    *("# pantry/stock.py\n{}", "// pantry/stock.py\n{}", "<!-- pantry/stock.py -->\n{}", "/* pantry/stock.py */\n{}"),
    *("-- pantry/stock.py\n{}", "; pantry/stock.py\n{}", "### pantry/stock.py\n{}", "**pantry/stock.py**\n{}"),
    *("- pantry/stock.py\n{}", "1. `pantry/stock.py`:\n{}", "pantry/stock.py (line 7)\n{}", "pantry/stock.py:7\n{}"),
    *('<file path="pantry/stock.py">\n{}\n</file>', "a/pantry/stock.py\n{}", "/testbed/pantry/stock.py\n{}"),
    *("pantry\\stock.py\n{}", "C:\\work\\pantry\\stock.py\n{}", "./pantry/stock.py\n{}", "[pantry/stock.py]\n{}"),
    *("In pantry/stock.py, the list has to be sorted:\n\n```python\n{}\n```", "File `pantry/stock.py`\n\nso:\n{}"),
]


@pytest.mark.parametrize("dress", NAMED)
def test_the_path_in_any_dress(dress: str) -> None:
    parsed = parse_edits(dress.format(STOCK), FILES)
    assert parsed.problems == () and [edit.path for edit in parsed.edits] == ["pantry/stock.py"]


@pytest.mark.parametrize("path", ["docs/my notes.md", "pages/[id].tsx", "web/app.js"])
def test_paths_with_blanks_brackets_and_bare_names_that_are_unique(path: str) -> None:
    for header in (path, f"`{path}`", f"**{path}**", f"# {path}", path.rsplit("/", 1)[1]):
        parsed = parse_edits(f"{header}\n{BODY.format('Old', 'New')}", FILES)
        assert [edit.path for edit in parsed.edits] == [path], header


def test_a_name_of_two_files_is_the_one_at_the_root_or_neither() -> None:
    assert parse_edits(f"stock.py\n{BODY.format('x = 1', 'x = 2')}", FILES).edits[0].path == "stock.py"
    two = {"a/util.py": "", "b/util.py": ""}
    assert parse_edits(f"util.py\n{BODY.format('x', 'y')}", two).edits[0].path == "util.py"
    assert parse_edits(f"a/util.py or b/util.py\n{BODY.format('x', 'y')}", two).problems


def test_a_new_file_is_not_taken_for_one_that_is_mentioned() -> None:
    text = f"Like `pantry/stock.py`, but new:\n\npantry/shelf.py\n{BODY.format('', 'SHELF = 1')}"
    assert parse_edits(text, FILES).edits[0].path == "pantry/shelf.py"
    fenced = f"```python pantry/shelf.py\n{BODY.format('', 'S = 1')}\n```"
    assert parse_edits(fenced, FILES).edits[0].path == "pantry/shelf.py"


@pytest.mark.parametrize(
    ("search", "divider", "replace"),
    [
        ("<<<<< SEARCH", "=====", ">>>>> REPLACE"),
        ("<<<<<<<<< SEARCH", "=========", ">>>>>>>>> REPLACE"),
        ("<<<<<<< search", "=======", ">>>>>>> replace"),
        ("<<<<<<<SEARCH", "=======", ">>>>>>>REPLACE"),
        ("<<<<<<< SEARCH pantry/stock.py", "=======", ">>>>>>> REPLACE pantry/stock.py"),
        ("<<<<<<< HEAD", "=======", ">>>>>>> HEAD"),
        ("<<<<<<< ORIGINAL", "=======", ">>>>>>> UPDATED"),
        ("<<<<<<< SEARCH", "=======", ">>>>>>>"),
        ("<<<<<<< SEARCH:", "=======", ">>>>>>> REPLACE ```"),
    ],
)
def test_markers_by_their_shape(search: str, divider: str, replace: str) -> None:
    parsed = parse_edits(f"pantry/stock.py\n{search}\nold\n{divider}\nnew\n{replace}", FILES)
    assert parsed.problems == ()
    assert parsed.edits == (Edit(path="pantry/stock.py", kind="change", search="old", replace="new"),)


def test_a_prompt_of_the_interpreter_is_no_marker() -> None:
    body = BODY.format(">>> replace(1)\n1", ">>> replace(1)\n2")
    assert parse_edits(f"pantry/stock.py\n{body}", FILES).edits[0].replace == ">>> replace(1)\n2\n"


def test_a_block_that_only_its_fence_closes() -> None:
    text = "pantry/stock.py\n```python\n<<<<<<< SEARCH\nold\n=======\nnew\n```\nThat is all."
    assert parse_edits(text, FILES).edits == (Edit(path="pantry/stock.py", kind="change", search="old", replace="new"),)
    two = f"{text}\n\npantry/prices.py\n```\n{BODY.format('a', 'b')}\n```"
    assert [edit.path for edit in parse_edits(two, FILES).edits] == ["pantry/stock.py", "pantry/prices.py"]


def test_of_several_dividers_the_one_whose_search_stands_in_the_file() -> None:
    stands = standing_in(FILES.get)
    change = "README.rst\n" + BODY.format("Title\n=======\n\nold text", "Title\n=======\n\nnew text")
    (edit,) = parse_edits(change, FILES, stands).edits
    assert apply_edits([edit], FILES.get).after == {"README.rst": "Title\n=======\n\nnew text\n"}
    adds = "README.rst\n" + BODY.format("old text", "old text\n\nMore\n=======\n")
    (edit,) = parse_edits(adds, FILES, stands).edits
    assert "More\n=======\n" in (apply_edits([edit], FILES.get).after["README.rst"] or "")
    creates = "NEWS.rst\n" + BODY.format("", "News\n=======\n\nnothing")
    creates = creates.replace("SEARCH\n\n", "SEARCH\n")
    (edit,) = parse_edits(creates, FILES, stands).edits
    assert (edit.kind, edit.replace) == ("create", "News\n=======\n\nnothing\n")


def test_the_same_block_said_twice_counts_once() -> None:
    parsed = parse_edits(f"pantry/stock.py\n{STOCK}\nAgain:\n{STOCK}", FILES)
    assert len(parsed.edits) == 1 and parsed.problems == ()
    assert apply_edits(parsed.edits, FILES.get).problems == ()


# --- diffs ------------------------------------------------------------------------------------------------------------


def test_two_small_edits_far_apart_give_a_small_diff() -> None:
    rows = [line for k in range(1_000) for line in ("  {", f'    "id": {k % 7}', "  },")]
    text = "".join(f"{line}\n" for line in ["first", *rows, "last"])
    edits = [
        Edit(path="a.json", kind="change", search="first", replace="First"),
        Edit(path="a.json", kind="change", search="last", replace="Last"),
    ]
    found = apply_edits(edits, {"a.json": text}.get)
    diff = unified_diff(found.before, found.after, found.kept)
    changed = [line for line in diff.split("\n") if line[:1] in ("+", "-") and line[:3] not in ("+++", "---")]
    assert changed == ["-first", "+First", "-last", "+Last"]


# --- code that was left out -------------------------------------------------------------------------------------------

CODE = ["def f(a):", "    b = a", "    c = b", "    return c"]


@pytest.mark.parametrize(
    "line",
    [
        *("# ... existing code ...", "    # ...", "// ... rest of the function ...", "/* ... unchanged ... */"),
        *(
            "<!-- ... existing markup, same as before ... -->",
            "# rest of the code remains the same",
            "# (existing code …)",
        ),
        *("-- ... other lines ...", "# existing code here", "// existing code", "[... existing code ...]", "..."),
    ],
)
def test_a_placeholder_is_filled_from_search_or_refused(line: str) -> None:
    assert is_placeholder(line)
    new = [CODE[0], line, "    return c"]
    assert filled(CODE, new) == CODE
    with pytest.raises(Elided, match="leaves code out"):
        filled(CODE, ["def g(x):", line, "    return x"])
    said = refused("".join(f"{text}\n" for text in CODE), "\n".join(CODE), f"def g(x):\n{line}\n    return x")
    assert "write every line" in said


def test_what_only_looks_like_a_placeholder_stays() -> None:
    lines = ("    ...", "# the rest is history", "print('...')", "# see existing tests", "x = a[...]")
    for line in (*lines, "# existing code, see #7"):
        new = ["def f(a):", line]
        assert filled(["def f(a):", "    pass"], new) == new, line
    there = ["# ... existing code ...", "a = 1"]
    assert filled(there, ["# ... existing code ...", "a = 2"]) == ["# ... existing code ...", "a = 2"]


def test_a_new_file_with_code_left_out_is_refused() -> None:
    edit = Edit(path="new.py", kind="create", replace="import os\n# ... existing code ...\n")
    found = apply_edits([edit], {}.get)
    assert found.after == {} and "leaves code out" in found.problems[0]
