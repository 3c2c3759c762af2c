"""The test that a run was told of, on the commit it starts from: run before a model speaks, and what that is worth.

Knows a run's settings and repositories. What a test run is, is `testing.py`'s business.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steergraph.agents.checks.testing import TestCommand, TestRun, can_run, run_before
from steergraph.agents.run_config import Context
from steergraph.repo.repository import Repository
from steergraph.sandbox.run import Sandbox

NO_TEST = "no test was given"
_Emit = Callable[[dict[str, Any]], None]


def asked_tests(
    context: Context, spent: float, before: TestRun | None, emit: _Emit
) -> tuple[TestCommand, Sandbox] | tuple[None, None]:
    """The test command of a run and where it runs, bounded by what is left of the run's time after `spent` seconds.
    None where no test was given, or where the run `before` shows that it can't be run.

    Raises SandboxUnavailable.
    """
    if context.test is None or (before and not can_run(before)):
        return None, None
    sandbox = Sandbox.detect(unsafe=context.unsafe_tests)
    seconds = context.test_seconds
    if context.max_seconds:
        seconds = max(1.0, min(seconds, (context.max_seconds - spent) / (1 if before else 2)))
    emit({"event": "testing", "sandbox": sandbox.kind, "command": context.test})
    return TestCommand(command=context.test, timeout_s=seconds), sandbox


def tests_of_base(repository: Repository, sha: str, context: Context, emit: _Emit) -> dict[str, Any] | None:
    """The test run on commit `sha`, as the state keeps it; `emit` gets it as an event. None where no test was given."""
    tests, sandbox = asked_tests(context, 0.0, None, emit)
    if tests is None or sandbox is None:
        return None
    with (
        tempfile.TemporaryDirectory(prefix="steergraph-") as folder,
        repository.working_copy(sha, Path(folder) / "copy") as copy,
    ):
        before = run_before(tests, sandbox, copy.path).model_dump(mode="json")
    emit({"event": "tested", "before": before})
    return before


def why_untested(before: TestRun | None) -> str | None:
    """Why a patch with which the test passes, if there is one, is not tested by that; None where it is."""
    if before is None:
        return NO_TEST
    return f"the test can't show the defect: {before.useless}" if before.useless else None
