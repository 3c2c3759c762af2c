"""Edits against files: where SEARCH is found, what is refused, what stays as it was."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steergraph.agents.edits.blocks import Edit
from steergraph.agents.edits.patch import Applied, UnsafePath, apply_edits, read_from, safe_path


def change(search: str, replace: str, path: str = "a.py") -> Edit:
    return Edit(path=path, kind="change", search=search, replace=replace)


def apply(text: str | None, *edits: Edit) -> Applied:
    return apply_edits(edits, {"a.py": text}.get)


def result(text: str, search: str, replace: str) -> str | None:
    applied = apply(text, change(search, replace))
    assert applied.problems == ()
    assert applied.before == {"a.py": text}
    return applied.after["a.py"]


def problem(text: str | None, *edits: Edit) -> str:
    applied = apply(text, *edits)
    assert applied.after == {} and len(applied.problems) == 1
    return applied.problems[0]


def test_exact() -> None:
    applied = apply("a\nb\nc\n", change("b", "B\nBB"))
    assert applied.after == {"a.py": "a\nB\nBB\nc\n"}
    assert applied.matched[0].model_dump() == {"path": "a.py", "line": 2, "how": "exact"}
    assert result("a\nb\nc\n", "b\nc", "") == "a\n"


def test_whitespace_shifts_the_replacement() -> None:
    text = "class A:\n    def f(self):\n        return 1  \n"
    assert result(text, "def f(self):\n    return 1", "def f(self):\n    if x:\n        return 2\n    return 1") == (
        "class A:\n    def f(self):\n        if x:\n            return 2\n        return 1  \n"
    )
    assert result("def f():\n    return 1\n", "    def f():\n        return 1", "    def f():\n        return 2") == (
        "def f():\n    return 2\n"
    )


def test_whitespace_converts_tabs_and_units() -> None:
    assert result("if a:\n\tb\n\t\tc\n", "if a:\n    b\n        c", "if a:\n    b\n        d") == "if a:\n\tb\n\t\td\n"
    assert result("if a:\n    b\n", "if a:\n  b", "if a:\n  c\n  if d:\n    e") == (
        "if a:\n    c\n    if d:\n        e\n"
    )


def test_whitespace_ignores_blank_edges() -> None:
    assert result("x = 1\ny = 2\n", "\nx = 1\n\n", "\nx = 3\n\n") == "x = 3\ny = 2\n"


def test_indentation_that_fits_no_rule_is_refused() -> None:
    assert "does not fit lines 1-2" in problem("def f():\n    return 1\n", change("def f():\nreturn 1", "x"))
    said = problem("    if a:\n        b\n", change("        if a:\n            b", "        if a:\n  c"))
    assert "indentation of `c` cannot be told" in said


def test_nearest_lines() -> None:
    text = "import os\n\n\ndef total(values):\n    result = sum(values) / len(values)\n    return result\n"
    applied = apply(
        text, change("def total(value):\n    result = sum(values)/len(values)\n", "def total(value):\n    x\n")
    )
    assert applied.problems == ()
    assert applied.matched[0].how == "similar"
    # The line both sections share stays as the file has it, not as it was remembered.
    assert applied.after["a.py"] == "import os\n\n\ndef total(values):\n    x\n    return result\n"


def test_ambiguous_is_never_guessed() -> None:
    assert "SEARCH stands at lines 1 and 3" in problem("x\ny\nx\n", change("x", "z"))
    assert "at lines 1 and 3" in problem("  x\ny\n    x\n", change("x", "z"))
    near = problem("value = compute(a, b)\nother\nvalue = compute(a, c)\n", change("value = compute(a, d)", "z"))
    assert "is like what stands at lines 1 and 3" in near


def test_many_places_are_counted_and_a_hopeless_search_ends() -> None:
    assert "at lines 1, 2, 3, 4, 5, 6 and 14 more: " in problem("x\n" * 20, change("x", "z"))
    lines = [f"value_{i} = compute_something(argument_{i}, other_{i})" for i in range(6_000)]
    asked = "\n".join(line.replace("compute", "computed") for line in lines[3_000:3_050])
    assert "SEARCH is not in the file" in problem("\n".join(lines), change(asked, "z"))


def test_far_is_reported_with_the_nearest() -> None:
    said = problem("def alpha(x):\n    return x\n", change("def alphabet(y, z):", "z"))
    assert "SEARCH is not in the file" in said
    assert "SEARCH is not in the file" in problem("def alpha(x):\n", change("completely different", "z"))
    assert "SEARCH is not in the file; nearest is line 1: `x = 10`" in problem("x = 10\n", change("x = 11", "z"))


def test_line_endings_and_last_newline_stay() -> None:
    assert result("a\r\nb\r\nc", "b", "B\nBB") == "a\r\nB\r\nBB\r\nc"
    assert result("a\r\nb\r\nc", "c", "C\nD") == "a\r\nb\r\nC\r\nD"
    assert result("a\nb", "b", "b\nc") == "a\nb\nc"
    assert result("a\nb", "b", "") == "a\n"
    assert result("a\r\nb\nc\r\n", "a\nb\nc", "a\nb\nx") == "a\r\nb\nx\r\n"
    assert result("\ufeffa\nb\n", "a", "c") == "\ufeffc\nb\n"
    assert result("a\x0c\u2028b\nc\rd\n", "c\rd", "e") == "a\x0c\u2028b\ne\n"


def test_several_edits_in_order() -> None:
    applied = apply("a\nb\n", change("a", "c"), change("c\nb", "d"))
    assert applied.after == {"a.py": "d\n"} and applied.problems == ()
    applied = apply("a\nb\n", change("a", "c"), change("nothing like it", "d"))
    assert applied.after == {"a.py": "c\nb\n"} and len(applied.problems) == 1


def test_create_and_delete() -> None:
    create, delete = Edit(path="a.py", kind="create", replace="x"), Edit(path="a.py", kind="delete")
    assert apply(None, create).after == {"a.py": "x\n"}
    assert apply(None, Edit(path="a.py", kind="create")).after == {"a.py": ""}
    assert apply("", create).after == {"a.py": "x\n"}
    assert apply("x\n", delete).after == {"a.py": None}
    assert "exists already" in problem("y\n", create)
    assert "no such file" in problem(None, delete)
    assert "no such file" in problem(None, change("a", "b"))
    assert "undo each other" in problem(None, create, delete)
    assert "a.py is a file" in problem("y\n", Edit(path="a.py/b", kind="create", replace="x"))


def test_no_change_is_a_problem() -> None:
    assert "no change" in problem("a\n", change("a", "a"))
    assert "undo each other" in problem("a\n", change("a", "b"), change("b", "a"))


def test_bad_text_and_unreadable_files_are_problems() -> None:
    assert "NUL" in problem("a\n", change("a", "\0"))
    assert "UTF-8" in problem("a\n", change("a", "\ud800"))
    assert "cannot be seen" in problem("a\n", change("a", "b", path="a\u202e.py"))


@pytest.mark.parametrize(
    "path",
    [
        *("", " ", "/etc/passwd", "../x", "a/../../x", "a/..", ".", "./", "a/", "~/x", "C:/x", "c:x", "a\\b", "..\\x"),
        *(".git/config", "a/.git/hooks/x", ".GIT/config", ".Git", ".git./x", ".git /x", "git~1/config", "GIT~1/x"),
        *(".git::$INDEX_ALLOCATION/x", ".g\u200cit/config", "．git/x", ".gitmodules", ".GitModules"),
        *("a\0b", "a\nb", "a\x7f", "a\u202eb", "a\u2028b", "a" * 256, "a/" * 600 + "b", "\ud800"),
    ],
)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(UnsafePath) as caught:
        safe_path(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_safe_paths() -> None:
    for path in ("a.py", "src/a b.py", ".github/x.yml", ".gitignore", "é/ü.py", "a..b/c...py", "git/config", "x~1"):
        assert safe_path(path) == path
    assert safe_path("./src//a/./b.py") == "src/a/b.py"


@given(st.text())
def test_safe_path_stays_inside(path: str) -> None:
    try:
        clean = safe_path(path)
    except UnsafePath:
        return
    assert not Path(clean).is_absolute() and ".." not in clean.split("/") and safe_path(clean) == clean


def test_paths_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.py").write_text("x\n")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file-link").symlink_to("real/a.py")
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    assert safe_path("real/a.py", tmp_path) == "real/a.py"
    assert safe_path("new/b.py", tmp_path) == "new/b.py"
    for path, why in {
        "link/a.py": "symbolic link",
        "file-link": "symbolic link",
        "sub/x": "submodule",
        "pipe": "no regular file",
        "real": "no regular file",
        "real/a.py/b": "is no folder",
    }.items():
        with pytest.raises(UnsafePath, match=why):
            safe_path(path, tmp_path)


def test_reading_a_folder(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"a\0b")
    (tmp_path / "latin").write_bytes(b"\xe9\n")
    (tmp_path / "large").write_bytes(b"a" * 1_000_001)
    (tmp_path / "crlf").write_bytes(b"a\r\nb")
    (tmp_path / "out").symlink_to("/etc/passwd")
    read = read_from(tmp_path)
    assert read("crlf") == "a\r\nb" and read("missing") is None
    for path, why in {"binary": "binary", "latin": "not UTF-8", "large": "over 1,000,000", "out": "symbolic"}.items():
        applied = apply_edits([change("a", "b", path=path)], read)
        assert applied.after == {} and why in applied.problems[0]


WORDS = st.sampled_from(["a", "    b", "\tc", "", "d  ", "e\r", "long enough line", "long enough lime"])


@given(st.lists(WORDS), st.booleans(), st.lists(st.tuples(st.lists(WORDS, min_size=1), st.lists(WORDS)), max_size=3))
def test_any_edit_is_applied_or_explained(
    lines: list[str], final: bool, sections: list[tuple[list[str], list[str]]]
) -> None:
    text = "\n".join(lines) + ("\n" if final else "")
    applied = apply(text, *(change("\n".join(s) + "\n", "\n".join(r)) for s, r in sections))
    assert bool(applied.after) or bool(applied.problems) or not sections
    assert all(len(said) < 600 and "\n" not in said for said in applied.problems)


@given(st.lists(st.sampled_from(["a", "b", "    c"]), min_size=1, max_size=8), st.data())
def test_an_exact_unique_match_is_a_plain_replacement(lines: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lines) - 1))
    stop = data.draw(st.integers(start + 1, len(lines)))
    new = data.draw(st.lists(st.sampled_from(["x", "    y", ""]), max_size=3))
    section = lines[start:stop]
    places = [i for i in range(len(lines)) if lines[i : i + len(section)] == section]
    applied = apply("\n".join([*lines, ""]), change("\n".join(section), "".join(f"{line}\n" for line in new)))
    if len(places) == 1:
        assert applied.after["a.py"] == "".join(f"{line}\n" for line in [*lines[:start], *new, *lines[stop:]])
    else:
        assert applied.after == {} and "SEARCH stands at lines" in applied.problems[0]
