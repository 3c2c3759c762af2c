"""One patch, one instance, in the sandbox: the harness's steps without its containers.

Knows the harness's apply ladder, its log files, and how to run a script over throw-away copies of the checkout and the
environment. Knows nothing of what a log means: the official parsers read it.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

from steergraph.base.files import write_whole
from steergraph.base.records import Frozen
from steergraph.evals.grading.environments import TESTBED, Environment, run_script
from steergraph.evals.patches import refusal
from steergraph.repo.working_copy import remove_tree
from steergraph.sandbox.run import Mount, RunResult, Sandbox

LADDER = (
    "git apply --verbose",
    "git apply --verbose --3way",
    "git apply --verbose --reject",
    "patch --batch --forward --fuzz=5 -p1 -i",
)
"""As swebench's `GIT_APPLY_CMDS`; a test holds them together."""
APPLIED, NOT_APPLIED = ">>>>> Applied Patch", ">>>>> Patch Apply Failed"
_PATCH_FILE, _SCRIPT_FILE = "/tmp/patch.diff", "/eval.sh"
_APPLY_S = 120.0


class Bounds(Frozen):
    """Of one test run; see `Sandbox.run`."""

    timeout_s: float = 1800.0
    memory_mb: int = 4096
    disk_mb: int = 2048
    max_processes: int = 512
    output_bytes: int = 16 << 20


class Ran(Frozen):
    """What happened, before anybody has looked at the log. `log` is None where no test ran."""

    applied: bool
    reason: str = ""
    """One line: why it was not applied, or what stopped the tests."""
    log: str | None = None
    stopped: str | None = None
    """The bound that was passed."""
    seconds: float = 0.0


def run_patch(
    patch: str,
    script: str,
    testbed: Path,
    environment: Environment,
    sandbox: Sandbox,
    scratch: Path,
    folder: Path,
    bounds: Bounds,
) -> Ran:
    """Apply `patch` to a copy of `testbed`, run the eval script, and write the harness's files into `folder`.

    The copies are made in `scratch` and removed.

    Written: `patch.diff`, `eval.sh`, `test_output.txt` (where tests ran) and `run_instance.log`; not `report.json`.
    Raises SandboxUnavailable where the sandbox cannot be set up; nothing for what the patch does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    try:
        why = refusal(patch)
        # A patch too large to try is not kept either.
        write_whole(folder / "patch.diff", _as_bytes(patch if why is None else patch[: 1 << 20]))
        write_whole(folder / "eval.sh", _as_bytes(script))
        if why is not None:
            lines.append(f"{NOT_APPLIED}:\nrefused: {why}")
            return Ran(applied=False, reason=f"refused: {why}")
        try:
            return _run(testbed, environment, sandbox, scratch / "work", folder, bounds, lines.append)
        finally:
            remove_tree(scratch / "work")
    finally:
        write_whole(folder / "run_instance.log", _as_bytes("\n".join([*lines, ""])))


def _as_bytes(text: str) -> bytes:
    """What is no text, half characters of a patch, becomes `?`."""
    return text.encode("utf-8", "replace")


def copy_tree(source: Path, target: Path) -> None:
    """A copy with links, modes and times, sharing blocks where the file system can. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    words = ["cp", "-a", "--reflink=auto", str(source), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise OSError(f"cannot copy {source}: {(done.stderr.strip().splitlines() or ['cp was stopped'])[-1][:200]}")


def _run(
    testbed: Path,
    environment: Environment,
    sandbox: Sandbox,
    work: Path,
    folder: Path,
    bounds: Bounds,
    say: Callable[[str], None],
) -> Ran:
    copy_tree(testbed, work / "testbed")
    copy_tree(environment.folder / "env", work / "env")
    mounts = [
        *environment.mounts(work / "testbed", work / "env"),
        Mount(folder / "patch.diff", _PATCH_FILE),
        Mount(folder / "eval.sh", _SCRIPT_FILE),
    ]

    def run(*words: str, timeout_s: float = _APPLY_S, output_bytes: int = 1 << 20) -> RunResult:
        return run_script(
            sandbox,
            words,
            work,
            mounts,
            environment.version,
            timeout_s=timeout_s,
            memory_mb=bounds.memory_mb,
            disk_mb=bounds.disk_mb,
            max_processes=bounds.max_processes,
            output_bytes=output_bytes,
        )

    def shell(command: str) -> RunResult:
        return run("/bin/bash", "-c", f"cd {TESTBED} && {command}")

    why = _apply(shell, say)
    if why is not None:
        return Ran(applied=False, reason=why)
    say(f"Git diff before:\n{shell('git -c core.fileMode=false diff').output.strip()}")
    result = run("/bin/bash", _SCRIPT_FILE, timeout_s=bounds.timeout_s, output_bytes=bounds.output_bytes)
    say(f"Test runtime: {result.seconds:_.2f} seconds")
    log = result.output
    reason = ""
    if result.timed_out:
        reason = f"the tests took longer than {bounds.timeout_s:g} s"
        log += f"\n\nTimeout error: {bounds.timeout_s:g} seconds exceeded."
    elif result.killed_reason:
        reason = f"the tests were stopped: they passed their {result.killed_reason} limit"
        log += f"\n\n{reason}"
    elif result.output_cut:
        reason = f"the tests printed more than the {bounds.output_bytes >> 20} MB that are kept"
    write_whole(folder / "test_output.txt", log)
    if reason:
        say(reason)
    else:
        say(f"Git diff after:\n{shell('git -c core.fileMode=false diff').output.strip()}")
    stopped = result.killed_reason or ("output" if result.output_cut else None)
    return Ran(applied=True, reason=reason, log=log, stopped=stopped, seconds=result.seconds)


def _apply(shell: Callable[[str], RunResult], say: Callable[[str], None]) -> str | None:
    """Climb the ladder. None where the patch is in the tree, else why not, in one line."""
    said = ""
    for attempt, command in enumerate(LADDER):
        if attempt:
            shell("git checkout -- . ; git clean -fd")
        result = shell(f"{command} {_PATCH_FILE}")
        said = result.output.strip()
        if result.exit_code == 0:
            say(f"{APPLIED}:\n{said}")
            return None
        say(f"Failed to apply patch to container: {command}")
        if result.killed_reason:
            said = f"applying it passed the {result.killed_reason} limit"
            break
    else:
        if shell(f"git apply --check --reverse {_PATCH_FILE}").exit_code == 0:
            say(f"{APPLIED}: verified already applied")
            return None
    say(f"{NOT_APPLIED}:\n{said}")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"the patch does not apply: {lines[-1][:200] if lines else 'no word why'}"
