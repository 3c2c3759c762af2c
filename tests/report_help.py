"""What the report tests share: a small run with everything in it, graded in part, and text that must be escaped."""

import os
from dataclasses import dataclass
from pathlib import Path

from batch_help import EXAMPLES, batch, pantry_rows, write_dataset

from steergraph.agents.edits.diffs import unified_diff
from steergraph.evals.grading.rows import Prediction
from steergraph.evals.grading.verdict import Kind, Verdict, keep
from steergraph.repo.repository import Repository

EVIL = (
    "</pre></textarea></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'><b onclick='x'> {{ 7 * 7 }} "
    "[x](javascript:alert(1)) \u202etxet\u2066 \x1b[31m\x07\x00 \u200b | `"
)
GOLD_LOW = "<= limit"


@dataclass(frozen=True)
class Run:
    folder: Path
    dataset: Path
    grades: Path
    repos: Path


def graded(root: Path, model: str, instance: str, patch: str | None, kind: Kind = "resolved", log: str = "") -> Path:
    """A verdict of ours on a patch, in the log layout, and its folder. With None only the folder."""
    folder = root / "logs" / "run_evaluation" / "g" / model / instance
    folder.mkdir(parents=True)
    if patch is not None:
        prediction = Prediction(instance_id=instance, model=model, patch=patch or None)
        reason = "gold is unresolved here" if kind == "ungraded" else ""
        verdict = Verdict(instance_id=instance, model=model, verdict=kind, reason=reason, patch=prediction.fingerprint)
        if log:
            (folder / "test_output.txt").write_text(log, encoding="utf-8")
        keep(folder, verdict)
    return folder


def gold_rows(*names: str) -> list[dict[str, str]]:
    """Rows with the true repairs as their gold patches."""
    fixes = {
        "stock": ("< limit", GOLD_LOW),
        "fridge": ("closed or not", "not (not closed) and not"),
        "labels": ("text.lower()", "text.strip().lower()"),
    }
    rows = pantry_rows(*names)
    with Repository.open(str(EXAMPLES / "pantry.bundle")) as repository:
        for name, row in zip(names, rows, strict=True):
            path = f"pantry/{name}.py"
            text = repository.read_text(row["base_commit"], path)
            assert text is not None and fixes[name][0] in text
            row["patch"] = unified_diff({path: text}, {path: text.replace(*fixes[name], 1)})
    return rows


def report_run(root: Path) -> Run:
    """A run of two presets on three instances by the scripted engine: two patched (one as gold), one without an edit.
    Graded: the first is resolved, the second ungraded, under one preset alone."""
    os.environ.setdefault("STEERGRAPH_CACHE", str(root / "cache"))
    rows = gold_rows("stock", "fridge", "labels")
    _, folder = batch(root / "runs", rows, presets=("rag_baseline", "auto"))
    records = {name: folder.record("rag_baseline", f"steergraph__pantry-{name}") for name in ("stock", "fridge")}
    for name, kind, log in (("stock", "resolved", "Ran 1 test\nOK\n"), ("fridge", "ungraded", "")):
        record = records[name]
        assert record is not None and record["status"] == "patched_untested"
        graded(root / "grades", record["model_name_or_path"], record["instance_id"], record["patch"], kind, log)  # type: ignore[arg-type]
    return Run(folder.path, write_dataset(root / "gold.jsonl", rows), root / "grades", EXAMPLES)
