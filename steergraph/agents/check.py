"""Does a patch hold? It parses, its paths are safe, git applies it to a clean copy, the files parse, the tests pass.

Knows diffs and folders. Knows nothing of models or the graph. Problems are said in words that whoever wrote the patch
can act on. Code from the repository runs nowhere but on copies of it (`checks/testing.py`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from steergraph.agents.checks.testing import TestCommand, TestRun, can_run, run_after, run_before
from steergraph.agents.edits.diffs import diff_bytes
from steergraph.agents.edits.parsing import PARSERS
from steergraph.agents.edits.paths import UnsafePath, safe_path
from steergraph.base.records import Frozen
from steergraph.repo.encoding import to_bytes, to_text
from steergraph.repo.git import GitError, run_git
from steergraph.sandbox.run import Sandbox

_FEEDBACK_CHARACTERS = 400
_MODE_LINE = re.compile(r"(new file|deleted file) mode 100(644|755)\n")
_HEADER_LINE = re.compile(r"diff --git |index [0-9a-f]+\.\.[0-9a-f]+( 100(644|755))?\n|(---|\+\+\+) ")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class Copy(Protocol):
    """A throw-away working copy: `steergraph.repo.repository.WorkingCopy` is one."""

    @property
    def path(self) -> Path: ...


class CheckResult(Frozen):
    """`ok` where there is no problem. `applies` and `parses` say how far it came."""

    ok: bool
    problems: tuple[str, ...]
    applies: bool = False
    parses: bool = False
    tests_before: TestRun | None = None
    tests_after: TestRun | None = None


def check_patch(
    copy: Path | Copy,
    diff: str,
    edited: Mapping[str, str | None] | Iterable[str],
    tests: TestCommand | None = None,
    sandbox: Sandbox | None = None,
    before: TestRun | None = None,
) -> CheckResult:
    """Check `diff` against the clean working copy `copy`, which has it applied afterwards where it applies.

    Args:
        copy: the folder, or anything with it as `path`. It should be thrown away.
        diff: a git diff, as `unified_diff` makes it.
        edited: the paths that `diff` may touch; with their texts, what is on disk afterwards is compared with them.
        tests: run in the sandbox before and after, where the run before could; the patch is good if the run after
            passes.
        sandbox: where tests run; found by `Sandbox.detect` if not given.
        before: the run before, where it is known already; it is not repeated.

    Raises SandboxUnavailable where there are tests and no sandbox; else nothing for what the patch does.
    """
    root = copy if isinstance(copy, Path) else copy.path
    texts = dict(edited) if isinstance(edited, Mapping) else dict.fromkeys(edited)
    known = set(texts) if isinstance(edited, Mapping) else set()
    try:
        written = diff_bytes(diff, texts if known else {path: _text(root / path, path) for path in texts})
    except UnicodeError as error:
        return CheckResult(ok=False, problems=(f"the diff can't be written: {error}",), tests_before=before)
    if problems := [*_diff_problems(diff, written, texts, root), *_path_problems(texts, root)]:
        return CheckResult(ok=False, problems=tuple(problems), tests_before=before)
    old = {path: _read(root / path) for path in texts}
    sandbox = (sandbox or Sandbox.detect()) if tests else None
    if tests and sandbox and before is None:
        before = run_before(tests, sandbox, root)
    try:
        for option in ("--check", "--apply"):
            _git(root, ["apply", "--whitespace=nowarn", option, "-"], written)
    except GitError as error:
        return CheckResult(ok=False, problems=(f"the patch does not apply: {error}",), tests_before=before)
    for path in known:
        if not _same(_read(root / path), path, texts[path]):
            problems.append(f"{path}: what git wrote is not what was meant (the file's attributes convert it)")
    parse_problems = _parse_problems(old, root)
    if problems or parse_problems:
        found = CheckResult(ok=False, problems=(*problems, *parse_problems), applies=True, tests_before=before)
        return found.model_copy(update={"parses": not parse_problems})
    after = None
    if tests and sandbox and before and can_run(before):
        after = run_after(tests, sandbox, root)
        if not after.passed:
            problems.append(_failure(tests, before, after))
    return CheckResult(
        ok=not problems, problems=tuple(problems), applies=True, parses=True, tests_before=before, tests_after=after
    )


def _diff_problems(diff: str, written: bytes, paths: Iterable[str], root: Path) -> list[str]:
    """What is wrong with the diff's own form. A patch changes the texts of the files it names, and nothing else.

    git says what it touches: whoever computed the diff is not asked to read it again.
    """
    if not diff.strip():
        return ["the patch is empty"]
    if not any(line.startswith(("diff --git ", "--- ")) for line in _headers(diff)):
        return ["the diff names no file"]
    problems = [
        f"a patch may not change modes, make links, rename files or change binary ones: {line.strip()[:100]}"
        for line in _headers(diff)
        if not (_MODE_LINE.fullmatch(line) or _HEADER_LINE.match(line))
    ]
    try:
        counted = _git(root, ["apply", "--numstat", "-z", "-"], written).decode("utf-8", "surrogateescape")
    except GitError as error:
        return problems or [f"the diff cannot be parsed: {error}"]
    touched = {entry.split("\t", 2)[2] for entry in counted.split("\0") if entry}
    named = set(paths)
    problems += [f"the diff touches {path[:200]!r}, which no edit names" for path in sorted(touched - named)]
    return problems or [f"{path}: the diff leaves it out" for path in sorted(named - touched)]


def _headers(diff: str) -> Iterator[str]:
    """The lines of a diff that belong to no hunk."""
    left = 0
    for line in re.findall(r"[^\n]*\n|[^\n]+", diff):
        if hunk := _HUNK.match(line):
            left = sum(int(count) if count is not None else 1 for count in hunk.groups())
        elif left > 0 and line[0] in "+- ":
            left -= 2 if line[0] == " " else 1
        elif not line.startswith("\\"):
            yield line


def _path_problems(paths: Iterable[str], root: Path) -> list[str]:
    problems = []
    modules = _submodules(root)
    for path in paths:
        try:
            if safe_path(path, root) != path:
                problems.append(f"{path}: the path is not in its plain form")
        except UnsafePath as error:
            problems.append(str(error))
        if any(path == module or path.startswith(module + "/") for module in modules):
            problems.append(f"{path}: it lies in a submodule")
    return problems


def _submodules(root: Path) -> list[str]:
    """Folders that belong to other repositories; empty ones cannot be told from the tree alone."""
    if not (root / ".git").exists():
        return []
    entries = _git(root, ["ls-files", "--stage", "-z"]).decode("utf-8", "surrogateescape").split("\0")
    return [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]


def _git(root: Path, args: list[str], given: bytes = b"") -> bytes:
    # Never a repository further up, where `root` is none itself.
    return run_git(args, root, given, environment={"GIT_CEILING_DIRECTORIES": str(root.resolve().parent)})


def _parse_problems(old: Mapping[str, bytes | None], root: Path) -> list[str]:
    """Files that parsed, or were not there, and do not parse now."""
    problems = []
    for path, before in old.items():
        parse = PARSERS.get(Path(path).suffix.lower())
        now = _read(root / path)
        if parse is None or now is None:
            continue
        said = parse(now)
        if said is not None and (before is None or parse(before) is None):
            problems.append(f"{path} does not parse any more: {said}" if before is not None else f"{path}: {said}")
    return problems


def _failure(tests: TestCommand, before: TestRun, after: TestRun) -> str:
    """One line on why the tests fail, with what of their output tells most."""
    if after.killed_reason:
        why = f"was stopped: it passed its {after.killed_reason} limit"
        why += f" of {tests.timeout_s:g} s" if after.killed_reason == "time" else ""
    else:
        why = f"fails with exit code {after.exit_code}"
    regressed = " (it passed before the patch)" if before.passed else ""
    said = f": {after.said[:_FEEDBACK_CHARACTERS]}" if after.said else ""
    return f"with the patch the test command {why}{regressed}{said}"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _text(file: Path, path: str) -> str | None:
    try:
        return to_text(path, _read(file) or b"")
    except ValueError:
        return None


def _same(found: bytes | None, path: str, meant: str | None) -> bool:
    if found is None or meant is None:
        return found is None and meant is None
    # A working copy may have CRLF where the repository has LF, by the file's attributes.
    wanted = to_bytes(path, meant)
    return found == wanted or found.replace(b"\r\n", b"\n") == wanted.replace(b"\r\n", b"\n")
