"""Checking a patch: on a real repository, with real git and in a real sandbox where there is one."""

import subprocess
from pathlib import Path

import pytest

from steergraph.agents.check import CheckResult, TestCommand, TestRun, check_patch
from steergraph.agents.edits.patch import unified_diff
from steergraph.sandbox.run import RunResult, Sandbox

SUM = "def add(a, b):\n    return a - b\n"
FIXED = SUM.replace("a - b", "a + b")
TEST = "from calc import add\n\ndef test_add():\n    assert add(2, 3) == 5\n"
PYTEST = "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -q -p no:cacheprovider"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    (root / "calc.py").write_text(SUM)
    (root / "test_calc.py").write_text(TEST)
    (root / "data.json").write_text('{"a": 1}\n')
    (root / "old.py").write_text("print 'two'\n")
    (root / "link").symlink_to("/etc")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for args in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "base"]):
        subprocess.run(["git", *args], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox.detect(unsafe=True)


def check(root: Path, after: dict[str, str | None], **options: object) -> CheckResult:
    before = {path: (root / path).read_text() if (root / path).is_file() else None for path in after}
    return check_patch(root, unified_diff(before, after), after, **options)  # type: ignore[arg-type]


def test_a_good_patch(copy: Path) -> None:
    result = check(copy, {"calc.py": FIXED, "new/mod.py": "x = 1\n", "data.json": None, "new/empty.py": ""})
    assert result == CheckResult(ok=True, problems=(), applies=True, parses=True)
    assert (copy / "calc.py").read_text() == FIXED and (copy / "new/mod.py").read_text() == "x = 1\n"
    assert not (copy / "data.json").exists() and (copy / "new/empty.py").read_text() == ""


def test_anything_with_a_path_is_a_copy(copy: Path) -> None:
    class Held:
        path = copy

    assert check_patch(Held(), unified_diff({"calc.py": SUM}, {"calc.py": FIXED}), ["calc.py"]).ok


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "calc.py").write_text(SUM)
    assert check(tmp_path, {"calc.py": FIXED}).ok
    assert (tmp_path / "calc.py").read_text() == FIXED


def test_tests_run_before_and_after(copy: Path, sandbox: Sandbox) -> None:
    tests = TestCommand(command=PYTEST, timeout_s=60)
    result = check(copy, {"calc.py": FIXED}, tests=tests, sandbox=sandbox)
    assert result.ok and result.tests_before and result.tests_after
    assert not result.tests_before.passed and result.tests_before.exit_code == 1
    assert "assert -1 == 5" in result.tests_before.tail
    assert result.tests_after.passed and result.tests_after.sandbox == sandbox.kind
    assert not list(copy.glob("**/__pycache__"))


def test_a_failing_test_is_told_in_one_line(copy: Path, sandbox: Sandbox) -> None:
    before = TestRun(passed=True, exit_code=0, seconds=1.0, sandbox=sandbox.kind, tail="")
    tests = TestCommand(command=PYTEST, timeout_s=60)
    result = check(copy, {"calc.py": SUM.replace("-", "*")}, tests=tests, sandbox=sandbox, before=before)
    assert not result.ok and result.applies and result.parses and result.tests_before is before
    (said,) = result.problems
    assert said.startswith("with the patch the test command fails with exit code 1 (it passed before the patch): ")
    assert "assert 6 == 5" in said and "\n" not in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python -c 'import calc; raise KeyError(calc.add(1, 2))'", "fails with exit code 1: KeyError: 3"),
        ("echo plain words; exit 4", "fails with exit code 4: plain words"),
        (r"printf '\033[31mred\033[0m\a\n'; exit 1", "exit code 1: red"),
        ("exit 9", "exit code 9"),
        ("sleep 30", "was stopped: it passed its time limit of 1 s"),
    ],
)
def test_feedback(copy: Path, sandbox: Sandbox, command: str, said: str) -> None:
    before = TestRun(passed=False, exit_code=1, seconds=1.0, sandbox=sandbox.kind, tail="")
    tests = TestCommand(command=command, timeout_s=1.0 if "sleep" in command else 30.0)
    result = check(copy, {"calc.py": FIXED}, tests=tests, sandbox=sandbox, before=before)
    assert result.problems[0].endswith(said) and "\x1b" not in result.problems[0]


def test_tests_never_touch_the_copy_or_its_git(copy: Path, sandbox: Sandbox) -> None:
    command = "ls -A; rm -rf calc.py .git; mkdir .git; echo '[core]' > .git/config; exit 1"
    result = check(copy, {"calc.py": FIXED}, tests=TestCommand(command=command), sandbox=sandbox)
    assert result.tests_before and result.tests_after and ".git" in result.tests_before.tail
    assert (copy / "calc.py").read_text() == FIXED
    assert subprocess.run(["git", "status", "--short"], cwd=copy, capture_output=True).stdout == b" M calc.py\n"


def test_tests_that_ask_git_have_an_answer_and_no_history(copy: Path, sandbox: Sandbox) -> None:
    command = "test $(git rev-list --count --all) = 1 && git ls-files --error-unmatch calc.py && git diff --quiet HEAD"
    result = check(copy, {"calc.py": FIXED}, tests=TestCommand(command=command), sandbox=sandbox)
    assert result.ok and result.tests_before and result.tests_before.passed


def test_a_verdict_hangs_on_no_hash_seed_and_no_zone(copy: Path, sandbox: Sandbox) -> None:
    command = "python -c 'import time; print(hash(\"a\"), time.tzname[0])'; exit 1"
    result = check(copy, {"calc.py": FIXED}, tests=TestCommand(command=command), sandbox=sandbox)
    assert result.tests_before and result.tests_after
    assert result.tests_before.tail == result.tests_after.tail and result.tests_before.tail.endswith("UTC")


def test_a_test_that_fails_by_chance_does_not_count_as_failing(copy: Path) -> None:
    """It fails in the first copy it sees and passes in every other: of two runs on the same code the second passes."""
    calls: list[Path] = []

    class Chance(Sandbox):
        def run(self, command: str, cwd: Path, **options: object) -> RunResult:  # type: ignore[override]
            if "find_spec" in command:  # of what it imports
                return super().run(command, cwd, **options)  # type: ignore[arg-type]
            calls.append(cwd)
            return super().run("exit 1" if len(calls) == 1 else command, cwd, **options)  # type: ignore[arg-type]

    by_chance = Chance.detect(unsafe=True)
    calls.clear()  # it was tried
    result = check(copy, {"calc.py": FIXED}, tests=TestCommand(command="true"), sandbox=by_chance)
    assert len(calls) == 3 and result.ok
    assert result.tests_before and result.tests_before.passed and "says little" in result.tests_before.tail
    calls.clear()
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=copy, check=True)
    result = check(copy, {"calc.py": FIXED}, tests=TestCommand(command="exit 3"), sandbox=by_chance)
    assert len(calls) == 3 and not result.ok
    assert result.tests_before and not result.tests_before.passed and "says little" not in result.tests_before.tail


def test_files_must_still_parse(copy: Path) -> None:
    result = check(copy, {"calc.py": "def add(a, b):\n    return (a + b\n", "data.json": '{"a": }\n'})
    assert not result.ok and result.applies and not result.parses
    assert result.problems[0] == "calc.py does not parse any more: line 2: '(' was never closed: `return (a + b`"
    assert result.problems[1].startswith("data.json does not parse any more: Expecting value: line 1")


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [("a.toml", "a = 1\n", "a = \n"), ("a.yml", "a: !x [1]\n", "a: [1\n"), ("a.pyi", "x: int\n", "x: :\n")],
)
def test_new_files_must_parse(copy: Path, path: str, good: str, bad: str) -> None:
    assert not check(copy, {path: bad}).parses
    (copy / path).unlink()
    assert check(copy, {path: good}).ok


def test_what_never_parsed_may_go_on_so(copy: Path) -> None:
    assert check(copy, {"old.py": "print 'three'\n"}).ok


def test_a_patch_that_does_not_apply(copy: Path) -> None:
    before = TestRun(passed=False, exit_code=1, seconds=1.0, sandbox="limits", tail="")
    diff = unified_diff({"calc.py": "other\n"}, {"calc.py": "words\n"})
    result = check_patch(copy, diff, ["calc.py"], before=before)
    assert not result.ok and not result.applies and result.tests_before is before
    assert "does not apply" in result.problems[0] and "\n" not in result.problems[0]
    assert (copy / "calc.py").read_text() == SUM


@pytest.mark.parametrize("path", ["../out.py", ".git/hooks/post-checkout", "/tmp/x", "link/x", "link"])
def test_unsafe_paths_are_refused(copy: Path, path: str) -> None:
    result = check_patch(copy, unified_diff({path: None}, {path: "x\n"}), {path: "x\n"})
    assert not result.ok and not result.applies


def test_a_submodule_is_refused(copy: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=copy, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "update-index", "--add", "--cacheinfo", f"160000,{head},sub"], cwd=copy, check=True)
    (copy / "sub").mkdir()
    assert check(copy, {"sub/x.py": "x = 1\n"}).problems == ("sub/x.py: it lies in a submodule",)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ("", "the patch is empty"),
        ("no diff at all\n", "names no file"),
        ("--- a/calc.py\n+++ b/calc.py\n@@ -1,9 +1 @@\n-x\n", "cannot be parsed"),
        ("diff --git a/calc.py b/calc.py\nold mode 100644\nnew mode 100755\n", "may not change modes"),
        (
            "diff --git a/calc.py b/calc.py\nnew file mode 120000\n--- /dev/null\n+++ b/calc.py\n@@ -0,0 +1 @@\n+x\n",
            "links",
        ),
        ("diff --git a/calc.py b/x.py\nsimilarity index 100%\nrename from calc.py\nrename to x.py\n", "no edit names"),
        ("diff --git a/other.py b/other.py\n--- a/other.py\n+++ b/other.py\n@@ -1 +1 @@\n-x\n+y\n", "no edit names"),
    ],
)
def test_diffs_that_are_more_than_texts(copy: Path, diff: str, said: str) -> None:
    result = check_patch(copy, diff, ["calc.py"])
    assert not result.ok and not result.applies
    assert any(said in problem for problem in result.problems), result.problems


def test_line_endings_by_attributes(copy: Path) -> None:
    (copy / ".gitattributes").write_text("*.bat text eol=crlf\n*.u16 text working-tree-encoding=UTF-16\n")
    assert check(copy, {"a.bat": "echo\n"}).ok
    assert (copy / "a.bat").read_bytes() == b"echo\r\n"
    assert "not what was meant" in check(copy, {"b.u16": "x\n"}).problems[0]


@pytest.mark.parametrize("path", ["Plan b/notes.md", "a b/b c.py", "b/x.py", "d/é ü.py", 'q"uote.py', "tab\tname.py"])
def test_git_says_what_a_diff_touches(copy: Path, path: str) -> None:
    result = check_patch(copy, unified_diff({path: None}, {path: "x\n"}), {path: "x\n"})
    assert result.ok or "cannot be seen" in result.problems[0]
    assert (copy / path).exists() == result.ok
