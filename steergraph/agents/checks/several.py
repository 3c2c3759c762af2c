"""The patches of a turn, checked one after the other until one holds, each on a clean copy of its own.

Knows checks and copies. Knows nothing of the graph or of models.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from steergraph.agents.check import CheckResult, Copy, check_patch
from steergraph.agents.checks.testing import TestCommand, TestRun
from steergraph.agents.state import Tests
from steergraph.sandbox.run import Sandbox


class Checked(NamedTuple):
    """One patch, and what came of it."""

    candidate: Mapping[str, Any]
    result: CheckResult
    before: TestRun | None

    @property
    def tests(self) -> Tests:
        return Tests(before=self.before, after=self.result.tests_after)


def checked(
    candidates: Sequence[Mapping[str, Any]],
    copy_at: Callable[[Path], AbstractContextManager[Copy]],
    tests: TestCommand | None,
    sandbox: Sandbox | None,
    before: TestRun | None,
    until: float | None = None,
) -> Iterator[Checked]:
    """Each of `candidates` ({"diff", "files"}) with its check, up to the first that holds.

    `copy_at` makes a clean working copy in a folder. `before` is the test's run without a patch, where it is known.
    After `until` (of time.monotonic) no further one is begun.
    """
    for number, candidate in enumerate(candidates):
        if number and until is not None and time.monotonic() >= until:
            return
        with tempfile.TemporaryDirectory(prefix="steergraph-") as folder, copy_at(Path(folder) / "copy") as copy:
            result = check_patch(
                copy, candidate["diff"], candidate["files"], tests=tests, sandbox=sandbox, before=before
            )
        before = result.tests_before or before
        yield Checked(candidate, result, before)
        if result.ok:
            return


def better(one: Checked, other: Checked) -> Checked:
    """The one that came farther; of equals the first."""
    return other if _came(other.result) > _came(one.result) else one


def _came(result: CheckResult) -> tuple[bool, bool, bool]:
    return result.ok, result.parses, result.applies
