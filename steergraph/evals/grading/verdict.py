"""What is said of one prediction, and how it is kept: one small file beside the harness's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from steergraph.base.files import write_whole
from steergraph.base.records import Frozen
from steergraph.evals.grading.rows import Prediction, Row

Kind = Literal["resolved", "unresolved", "not_applied", "stopped", "empty", "ungraded"]
"""`stopped`: the tests passed a bound; the harness counts it as an error. `ungraded`: nothing is known of the patch,
because its environment could not be made or failed the gold patch."""
FILE = "verdict.json"
_START = ">>>>> Start Test Output"
NETWORK_WORDS = (
    "Temporary failure in name resolution", "Name or service not known", "Network is unreachable",
    "Failed to establish a new connection", "nodename nor servname", "Max retries exceeded", "getaddrinfo failed",
)  # fmt: skip


class Verdict(Frozen):
    """`passed` counts tests as (FAIL_TO_PASS passed, all, PASS_TO_PASS passed, all); None where no test ran."""

    instance_id: str
    model: str
    verdict: Kind
    reason: str = ""
    passed: tuple[int, int, int, int] | None = None
    seconds: float = 0.0
    environment: str = ""
    is_gold: bool = False
    patch: str = ""
    """Fingerprint of the patch, and of the row: a verdict on others is not taken for this one's."""
    row: str = ""

    @property
    def line(self) -> str:
        """For people, in one line."""
        counts = "F2P {}/{} P2P {}/{}".format(*self.passed) if self.passed else ""
        label = "(the gold patch)" if self.is_gold and self.model != "gold" else ""
        return " ".join(word for word in (self.verdict.replace("_", " "), counts, label, self.reason) if word)


def count(report: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """The four numbers of an instance's official report."""
    tests = report.get("tests_status")
    if not tests:
        return None
    f2p, p2p = tests["FAIL_TO_PASS"], tests["PASS_TO_PASS"]
    ok = len(f2p["success"]), len(p2p["success"])
    return ok[0], ok[0] + len(f2p["failure"]), ok[1], ok[1] + len(p2p["failure"])


def why_unresolved(report: Mapping[str, Any], log: str) -> str:
    """What the tests that failed have in common, in one line."""
    # Before the marker the log has the source of the commit, which may say anything.
    if any(words in log.partition(_START)[2] for words in NETWORK_WORDS):
        return "its tests need a network"
    if not report.get("tests_status"):
        reason = report.get("infra_failure_reason")
        return "no test result could be read from the log" + (f" ({reason})" if reason else "")
    failed = [name for kind in ("FAIL_TO_PASS", "PASS_TO_PASS") for name in report["tests_status"][kind]["failure"]]
    return f"failed: {failed[0][:120]}" + (f" and {len(failed) - 1} more" if len(failed) > 1 else "")


def keep(folder: Path, verdict: Verdict) -> None:
    """Write it; the last file of an instance, so that what has it is finished."""
    write_whole(folder / FILE, json.dumps(verdict.model_dump(), indent=1) + "\n", parents=True)


def kept(folder: Path, row: Row, prediction: Prediction) -> Verdict | None:
    """The verdict that was kept for exactly this patch on exactly this row. Ungraded ones are tried again."""
    try:
        found = Verdict.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    same = (found.patch, found.row) == (prediction.fingerprint, row.fingerprint)
    return found if same and found.verdict != "ungraded" else None
