"""Whole files and unified diffs of an answer, read against what was shown."""

import pytest

from steergraph.agents.edits.formats import FormatName, edit_format
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.patch import apply_edits

SOURCE = "import os\n\n\ndef f(x):\n    return x\n\n\ndef g(x):\n    return x\n"


def said(form: FormatName, answer: str, seen: int = 9) -> tuple[str | None, tuple[str, ...]]:
    def read(path: str) -> str | None:
        return SOURCE if path == "pkg/a.py" else None

    shown = Shown(["pkg/a.py", "pkg/b.py"], {"pkg/a.py": [(1, seen)]}, read)
    parsed = edit_format(form).parse(answer, shown)
    applied = apply_edits(parsed.edits, read)
    return applied.after.get("pkg/a.py"), (*parsed.problems, *applied.problems)


NEW = SOURCE.replace("return x\n\n", "return x + 1\n\n")


@pytest.mark.parametrize(
    "answer",
    [
        f"pkg/a.py\n```python\n{NEW}```",
        f"```python pkg/a.py\n{NEW}```\nThat is it.",
        f"```python\n# pkg/a.py\n{NEW}```",
        f"```\n{NEW}```",
    ],
)
def test_a_whole_file_wherever_its_path_stands(answer: str) -> None:
    text, problems = said("whole_file", answer)
    assert not problems
    assert text is not None and text.removeprefix("# pkg/a.py\n") == NEW


@pytest.mark.parametrize(
    ("answer", "seen", "word"),
    [
        ("```python\nimport os\n# ... rest of the file ...\n```", 9, "left out"),
        (f"```python\n{NEW}", 9, "ends inside"),
        (f"```python\n{NEW}```", 4, "in part"),
        ("I would change `f`.", 9, "no code"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(answer: str, seen: int, word: str) -> None:
    text, problems = said("whole_file", answer, seen)
    assert text is None and word in problems[0]


@pytest.mark.parametrize("header", ["--- a/pkg/a.py\n+++ b/pkg/a.py\n", "--- pkg/a.py\n+++ pkg/a.py\n", ""])
@pytest.mark.parametrize("fence", ["", "```diff\n"])
def test_hunks_by_their_lines_and_not_their_numbers(header: str, fence: str) -> None:
    hunk = "@@ -40,3 +41,3 @@ def f(x):\n def f(x):\n-    return x\n+    return x + 1\n"
    text, problems = said("unified_diff", f"Sure.\n{fence}{header}{hunk}{fence[:3]}")
    assert not problems
    assert text == NEW


def test_a_removed_line_that_looks_like_a_header_stays_a_line() -> None:
    text, problems = said("unified_diff", "--- a/pkg/a.py\n+++ b/pkg/a.py\n@@\n--- x\n def f(x):\n")
    assert text is None and problems


def test_a_diff_of_a_new_file() -> None:
    shown = Shown(["pkg/a.py"], {}, lambda path: None)
    parsed = edit_format("unified_diff").parse("--- /dev/null\n+++ b/pkg/new.py\n@@ -0,0 +1 @@\n+x = 1\n", shown)
    assert [(edit.path, edit.kind, edit.replace) for edit in parsed.edits] == [("pkg/new.py", "create", "x = 1\n")]


@pytest.mark.parametrize(
    "answer",
    [
        "pkg/a.py\nLINE 5:     return x + 1",
        "LINE 5:     return x + 1\n",
        "In `pkg/a.py`:\n```\n- **LINE 5**: 5|    return x + 1\n```\nThat is it.",
        "pkg/a.py\nline 5: return x + 1\r\nline 9:     return x",
    ],
)
def test_a_line_by_its_number(answer: str) -> None:
    text, problems = said("line", answer)
    assert not problems
    assert text == NEW


def test_several_lines_and_one_that_goes() -> None:
    text, problems = said("line", "LINE 1:\nLINE 4: def f(y):\nLINE 5:     return y\n")
    assert not problems
    assert text == SOURCE.replace("import os\n", "").replace("def f(x):\n    return x", "def f(y):\n    return y")


@pytest.mark.parametrize(
    ("answer", "seen", "word"),
    [
        ("LINE 9:     return 1", 4, "was not shown"),
        ("LINE 0: x", 9, "was not shown"),
        ("LINE 90: x", 90, "was not shown"),
        ("LINE 5:     return 1\nLINE 5:     return 2", 9, "twice"),
        ("LINE 5:     return x", 9, "nothing changes"),
        ("line five is wrong", 9, "no line"),
        ("pkg/b.py\nLINE 1: x", 9, "no such file"),
    ],
)
def test_a_line_that_is_none_is_refused(answer: str, seen: int, word: str) -> None:
    text, problems = said("line", answer, seen)
    assert text is None and word in problems[0]
