"""The final reports of a run in the sandbox: the harness's own, and what it has no place for.

Knows verdicts and files. The counting is the harness's.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from steergraph.base.files import write_whole
from steergraph.evals.grading.official import Official
from steergraph.evals.grading.rows import Prediction, Row
from steergraph.evals.grading.verdict import Verdict


def write_reports(
    official: Official,
    out: Path,
    logs: Path,
    rows: Mapping[str, Row],
    verdicts: Sequence[Verdict],
    predictions: Sequence[Prediction],
    dataset: Path,
) -> list[Path]:
    """Write `MODEL.RUN.json` into `out` for each model, and `run.json`, which `swebench report` reads, into `logs`.

    Ungraded predictions are left out of the harness's counts, and listed with the reason (`ungraded_ids`,
    `ungraded_reasons`); `gold_ids` are those that are the dataset's own patch.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    meta = {"dataset": str(dataset), "split": "test", "task_repo": None, "created_at": now}
    write_whole(logs / "run.json", json.dumps(meta, indent=2) + "\n")
    patches = {(each.model, each.instance_id): each.patch for each in predictions}
    written = []
    for model in sorted({verdict.model for verdict in verdicts}):
        own = [verdict for verdict in verdicts if verdict.model == model]
        ungraded = {each.instance_id: each.reason for each in own if each.verdict == "ungraded"}
        listed = {
            name: {"instance_id": name, "model_name_or_path": model, "model_patch": patches[model, name]}
            for name in (each.instance_id for each in own)
            if name not in ungraded
        }
        path = out / f"{model}.{logs.name}.json"
        report = {"schema_version": 2, "resolved_ids": []}
        if listed:
            path = official.run_report(out, logs.name, listed, [rows[each.instance_id].columns for each in own])
            report = json.loads(path.read_text())
        report["ungraded_ids"] = sorted(ungraded)
        report["ungraded_reasons"] = ungraded
        report["gold_ids"] = sorted(each.instance_id for each in own if each.is_gold)
        write_whole(path, json.dumps(report, indent=4) + "\n")
        written.append(path)
    return written
