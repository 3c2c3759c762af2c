"""Diffs against the real git: what is applied is what was meant, to the byte."""

import shutil
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from unidiff import PatchSet

from steergraph.agents.edits.patch import unified_diff

Files = dict[str, str | None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    yield root


def git_apply(root: Path, before: Files, diff: str, *options: str) -> Files:
    for entry in root.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for path, text in before.items():
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(text.encode())
    done = subprocess.run(["git", "apply", *options], cwd=root, input=diff.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode() + diff
    found = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts]
    return {path.relative_to(root).as_posix(): path.read_bytes().decode() for path in found}


LINE = st.one_of(
    st.sampled_from(
        ["a", "b", "", "a\r", "\x0c", "\u2028x", "-- a", "++ b", "\\ No newline at end of file", "é", "\t"]
    ),
    st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=4),
)
TEXT = st.one_of(
    st.none(), st.tuples(st.lists(LINE, max_size=12), st.booleans()).map(lambda t: "\n".join(t[0]) + "\n" * t[1])
)
NAME = st.sampled_from(
    ["a.py", "d/b c.py", 'q"uote.py', "é.py", "d/t\tab", "tail ", "back\\slash", "b/b.py", "new\nline"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.dictionaries(NAME, TEXT, max_size=3), after=st.dictionaries(NAME, TEXT, min_size=1, max_size=3))
def test_git_apply_gives_exactly_what_was_meant(folder: Path, before: Files, after: Files) -> None:
    diff = unified_diff(before, after)
    meant = {path: text for path, text in {**before, **after}.items() if text is not None}
    assume(diff)
    assert git_apply(folder, before, diff) == meant
    # "\n" is the only end of a line for StringIO's default, as for git.
    parsed = PatchSet(StringIO(diff))
    assert len(parsed) == sum(before.get(path) != text for path, text in after.items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(old=["a", "b", "b", "b", "a"], edits=[(0, "b")])  # the change looks the same three lines further down
@given(old=st.lists(LINE, max_size=60), edits=st.lists(st.tuples(st.integers(0, 60), LINE), max_size=4))
def test_small_changes_in_long_files(folder: Path, old: list[str], edits: list[tuple[int, str]]) -> None:
    new = list(old)
    for at, line in edits:
        new[min(at, len(new)) : at + 1] = [line]
    before, after = "\n".join(old), "\n".join(new)
    assume(before != after)
    diff = unified_diff({"a": before}, {"a": after})
    assert git_apply(folder, {"a": before}, diff) == {"a": after}
    assert git_apply(folder, {"a": after}, diff, "-R") == {"a": before}


def test_what_it_looks_like() -> None:
    lines = [f"line {i}" for i in range(1, 11)]
    before = "\n".join(lines) + "\n"
    diff = unified_diff(
        {"src/a.py": before, "old.py": "x\n", "same.py": "s\n", "only before": "b\n"},
        {"src/a.py": before.replace("line 5", "five"), "old.py": None, "new.py": "y", "same.py": "s\n", "e m": ""},
    )
    assert diff == (
        "diff --git a/e m b/e m\nnew file mode 100644\n"
        "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n"
        "+y\n\\ No newline at end of file\n"
        "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n@@ -2,7 +2,7 @@\n"
        " line 2\n line 3\n line 4\n-line 5\n+five\n line 6\n line 7\n line 8\n"
    )
    assert unified_diff({"a": "x"}, {"a": "x"}) == ""


def test_large_files_take_no_minutes(folder: Path) -> None:
    before = "".join(f"{i % 7}\n" for i in range(60_000))
    after = before.replace("6\n", "six\n", 1) + "end\n"
    assert git_apply(folder, {"a": before}, unified_diff({"a": before}, {"a": after})) == {"a": after}
