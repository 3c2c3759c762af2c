"""The test command on a copy of a repository: run in the sandbox, and what the run is worth.

Knows folders and the sandbox. Knows nothing of patches, models or the graph. Code from the repository runs nowhere but
in the sandbox, on copies that are repositories of one commit, so that tests which ask git have an answer.
"""

import re
import shutil
import tempfile
from pathlib import Path

from steergraph.agents.checks.imports import elsewhere, import_path
from steergraph.agents.checks.telling import telling_line
from steergraph.base.errors import one_line
from steergraph.base.records import Frozen
from steergraph.repo.git import GitError, run_git
from steergraph.sandbox.run import Kind, Sandbox

_SAME_EVERY_TIME = {"PYTHONHASHSEED": "0", "TZ": "UTC"}
"""What a verdict must not hang on. The sandbox sets the language."""
_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[^\t\n\x20-\x7e\xa0-\U0010ffff]")
_NOT_FOUND, _NOT_RUNNABLE = 127, 126
_SHELL_FAILED = 2
_NO_TESTS = re.compile(
    r"(=+ )?no tests (ran|collected)\b.*|NO TESTS RAN.*|ERROR: (file or directory )?not found: .*"
    r"|(=+ )?\d+ deselected\b.*"
)
_NOT_BEGUN = re.compile(
    r"(?:python[\d.]* -m )?\S*: error: (?:unrecognized arguments|argument \S+:|ambiguous option).*|ERROR: usage: .*"
    r"|\S*make(?:\[\d+\])?: \*\*\* (?:No rule to make target|No targets).*"
    r"|(?:\S*sh: )?(?:\d+: |line \d+: )?cd: .*|\S*sh: (?:\d+: )?(?:cannot open|can't open) .*"
    r"|\S*sh: .*: No such file or directory"
)
"""What a runner or a shell says of a command that it can't begin."""
_RAN = re.compile(r"Ran \d+ tests? in .*|(?:=+ )?(?:\d+ \w+, )*\d+ (?:failed|passed|errors?)\b.*")
"""What a runner says of tests that it ran: of those one may have said the former itself."""
_MISSING = re.compile(
    r"No module named '?([\w.]+)'?|can't open file '(?:/workspace/)?([^']+)'|"
    r"AttributeError: (?:module|type object) '[^']+' has no attribute '(\w+)'"
)


class TestCommand(Frozen):
    """What to run before and after, and its bounds (see `Sandbox.run`)."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    command: str
    timeout_s: float = 300.0
    memory_mb: int = 2048
    max_processes: int = 256
    output_bytes: int = 200_000
    disk_mb: int = 1024


class TestRun(Frozen):
    """One run of a test command."""

    __test__ = False

    passed: bool
    exit_code: int | None
    killed_reason: str | None = None
    seconds: float
    sandbox: Kind
    tail: str
    """The end of its output, without control codes."""
    said: str = ""
    """Of a run that failed: the exception's line and its frames in the repository."""
    useless: str | None = None
    """Of the run before a patch: why it can't show the defect, in one line; None where it can."""


def run_before(tests: TestCommand, sandbox: Sandbox, root: Path) -> TestRun:
    """The run on `root` as it is, which stays so. One that fails is repeated, and counts only if it fails again: a test
    that fails by chance would make any patch a repair."""
    with tempfile.TemporaryDirectory(prefix="steergraph-check-") as folder:
        copy, again = Path(folder) / "before", Path(folder) / "again"
        copy_tree(root, copy)
        foreign = elsewhere(tests.command, copy, sandbox)
        first = _run(tests, sandbox, copy)
        why = f"what it imports is not the copy under test: {foreign}" if foreign else None
        if not first.passed:
            copy_tree(root, again)
            why = _not_started(tests, sandbox, again, first) or why
            second = _run(tests, sandbox, again)
            if second.passed:
                said = "(of two runs on the same code the first failed and the second passed: this test says little)\n"
                first = second.model_copy(update={"tail": said + second.tail})
                why = "on the same code it failed at one time and passed at another"
        else:
            why = why or "it passes without a patch"
        return first.model_copy(update={"useless": why})


def run_after(tests: TestCommand, sandbox: Sandbox, root: Path) -> TestRun:
    """The run on `root` with the patch applied; what it leaves behind is never seen there."""
    with tempfile.TemporaryDirectory(prefix="steergraph-check-") as folder:
        copy = Path(folder) / "after"
        copy_tree(root, copy)
        return _run(tests, sandbox, copy)


def can_run(before: TestRun) -> bool:
    """Whether a run with the patch could say anything at all; if it passed before, it can still say what broke."""
    return before.passed or before.useless is None


def copy_tree(root: Path, target: Path) -> None:
    """A copy for tests to run in: links stay links, and git's folder is a new one, with all of it in one commit."""

    def leave_out(folder: str, names: list[str]) -> set[str]:
        return {".git"} & set(names) if Path(folder) == root else set()

    shutil.copytree(root, target, symlinks=True, ignore=leave_out)
    who = ("-c", "user.name=steergraph", "-c", "user.email=steergraph@example.invalid")
    try:
        run_git(["init", "--quiet", "--template="], target)
        run_git(["add", "--all", "--force"], target)
        run_git([*who, "commit", "--quiet", "--allow-empty", "--no-verify", "--message=base"], target)
    except GitError:  # a tree that git itself can't hold (a repository without a commit inside): then it goes without
        shutil.rmtree(target / ".git", ignore_errors=True)


def _run(tests: TestCommand, sandbox: Sandbox, folder: Path) -> TestRun:
    place = sandbox.place(folder)
    result = sandbox.run(
        tests.command,
        folder,
        timeout_s=tests.timeout_s,
        memory_mb=tests.memory_mb,
        max_processes=tests.max_processes,
        output_bytes=tests.output_bytes,
        disk_mb=tests.disk_mb,
        env={**_SAME_EVERY_TIME, **import_path(folder, place)},
    )
    output = _CONTROL.sub("", result.output).rstrip()
    return TestRun(
        passed=result.exit_code == 0,
        exit_code=result.exit_code,
        killed_reason=result.killed_reason,
        seconds=result.seconds,
        sandbox=result.kind,
        tail="\n".join(output.split("\n")[-_TAIL_LINES:])[-_TAIL_CHARACTERS:],
        said=telling_line(output, place) if result.exit_code else "",
    )


def _not_started(tests: TestCommand, sandbox: Sandbox, root: Path, run: TestRun) -> str | None:
    """Why no test was there to fail in `run`, which failed."""
    lines = run.tail.split("\n")
    last = one_line(lines[-1], 120)
    if run.exit_code in (_NOT_FOUND, _NOT_RUNNABLE):
        return f"it is not there to be run (exit code {run.exit_code}): {last}"
    if run.exit_code == _SHELL_FAILED and sandbox.run(["/bin/sh", "-n", "-c", tests.command], root).exit_code:
        return f"the shell can't read it: {last}"
    if said := next((line for line in lines if _NO_TESTS.fullmatch(line)), None):
        return f"it finds no test: {one_line(said, 120)}"
    begun = any(_RAN.fullmatch(line) for line in lines)
    if not begun and (said := next((line for line in lines if _NOT_BEGUN.fullmatch(line.strip())), None)):
        return f"no test is begun: {one_line(said, 120)}"
    asked = _asked(tests.command)
    for found in _MISSING.finditer(run.tail):
        if next(filter(None, found.groups())) in asked:
            return f"it finds no test: {one_line(found[0], 120)}"
    return None


def _asked(command: str) -> set[str]:
    """The files, modules and, of unittest, the parts of tests' names that a command asks for. What a test itself
    imports may be missing because of the defect, and is none of them."""
    words = set(re.findall(r"[\w./-]+\.py\b", command))
    for module, rest in re.findall(r"-m\s+([\w.]+)([^;&|]*)", command):
        words |= {module, module.split(".")[0]}
        if module == "unittest":
            names = re.findall(r"[\w.]+", rest)
            words |= {*names, *(part for name in names for part in name.split(".")[1:])}
    return words
