"""What grading said of a prediction, read from its logs: ours (verdict.json) or the official harness's alone.

Knows the log layout of docs/swebench.md. A verdict on another patch than the one in question is none.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steergraph.base.errors import InputError
from steergraph.base.files import read_record
from steergraph.base.records import Frozen
from steergraph.evals.grading.rows import Prediction
from steergraph.evals.grading.verdict import FILE, Verdict, count

LOG_TAIL = 12_000
_NOT_APPLIED = ">>>>> Patch Apply Failed"


class Graded(Frozen):
    verdict: Verdict
    log: Path | None
    """The test log, where there is one."""

    def tail(self) -> tuple[str, int]:
        """The end of the log, and how many bytes were left out before it."""
        if self.log is None:
            return "", 0
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - LOG_TAIL))
                return file.read().decode("utf-8", "replace"), max(0, size - LOG_TAIL)
        except OSError:
            return "", 0


class Grades:
    """Verdicts below a folder: the `--out` of `steergraph eval`, its logs, or one run's logs."""

    def __init__(self, folder: str | Path) -> None:
        """Raises InputError where there are no grading logs in it."""
        root = Path(folder)
        for below in (root / "logs" / "run_evaluation", root / "run_evaluation", root):
            if below.is_dir():
                break
        else:
            raise InputError(f"--grades {folder}: no such folder")
        runs = [each for each in sorted(below.iterdir()) if each.is_dir()]
        # One run's own folder holds models, a folder of runs holds one level more.
        self._runs = [each for each in runs if any(each.glob("*/*/patch.diff")) or any(each.glob(f"*/*/{FILE}"))]
        if any(below.glob("*/*/patch.diff")) or any(below.glob(f"*/*/{FILE}")):
            self._runs.append(below)
        if not self._runs:
            raise InputError(f"--grades {folder}: no logs of a grading in it (logs/run_evaluation/RUN/MODEL/INSTANCE)")

    def of(self, model: str, instance_id: str, patch: str) -> Graded | None:
        """The verdict on exactly this patch: a graded one before an ungraded one, the latest of equals; or None."""
        model = model.replace("/", "__")
        if {model, instance_id} & {"", ".", ".."} or "/" in instance_id or "\0" in model + instance_id:
            return None
        prediction = Prediction(instance_id=instance_id, model=model, patch=patch or None)
        found = []
        for run in self._runs:
            folder = run / model / instance_id
            verdict = _ours(folder, prediction) or _official(folder, prediction)
            if verdict is not None:
                log = folder / "test_output.txt"
                when = max(file.lstat().st_mtime for file in folder.iterdir())
                graded = Graded(verdict=verdict, log=log if log.is_file() else None)
                found.append(((verdict.verdict != "ungraded", when), graded))
        return max(found, key=lambda each: each[0])[1] if found else None

    def models(self) -> Iterator[str]:
        """The models that were graded."""
        seen = {each.name for run in self._runs for each in run.iterdir() if each.is_dir()}
        yield from sorted(seen)


def _ours(folder: Path, prediction: Prediction) -> Verdict | None:
    try:
        verdict = Verdict.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    return verdict if verdict.patch == prediction.fingerprint else None


def _official(folder: Path, prediction: Prediction) -> Verdict | None:
    if (folder / FILE).is_file():
        return None
    try:
        if (folder / "patch.diff").read_text(encoding="utf-8") != (prediction.patch or ""):
            return None
        said = (folder / "run_instance.log").read_text(encoding="utf-8", errors="replace")
    except (OSError, UnicodeDecodeError):
        return None
    report: Mapping[str, Any] = (read_record(folder / "report.json") or {}).get(prediction.instance_id) or {}
    verdict = Verdict(
        instance_id=prediction.instance_id, model=prediction.model, verdict="unresolved", patch=prediction.fingerprint
    )
    if isinstance(report, dict) and isinstance(report.get("resolved"), bool):
        try:
            passed = count(report)
        except (KeyError, TypeError):
            passed = None
        return verdict.model_copy(
            update={"verdict": "resolved" if report["resolved"] else "unresolved", "passed": passed}
        )
    if _NOT_APPLIED in said:
        return verdict.model_copy(update={"verdict": "not_applied", "reason": "the harness could not apply it"})
    return None
