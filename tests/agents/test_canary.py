"""Gold never leaks: strings planted in the gold columns are found in nothing that a run writes or says."""

import json
from pathlib import Path

from steergraph.cli import main
from steergraph.repo.repository import Repository

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COLUMNS = ("patch", "test_patch", "FAIL_TO_PASS", "PASS_TO_PASS", "hints_text")


def test_planted_strings_are_found_nowhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    bundle = str(EXAMPLES / "pantry.bundle")
    row = {
        "instance_id": "pantry__pantry-1",
        "repo": "pantry/pantry",
        "base_commit": Repository.open(bundle).resolve(None),
        "version": "1.0",
        "problem_statement": (EXAMPLES / "issues" / "stock.md").read_text(),
        **{column: f"canary-{column}-7f3a" for column in COLUMNS},
    }
    (tmp_path / "data").mkdir()
    dataset = tmp_path / "data" / "rows.jsonl"
    dataset.write_text(json.dumps(row))
    code = main(
        [
            *("run", "--swebench", str(dataset), "--instance", row["instance_id"], "--repo", bundle),
            *("--out", str(tmp_path / "run"), "--max-repairs", "1"),
        ]
    )
    assert code in (0, 1)
    said = capsys.readouterr()
    written = [p for folder in ("run", "cache") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    assert {p.name for p in written} >= {"trace.jsonl", "checkpoint.sqlite", "outcome.json", "prediction.jsonl"}
    for text in (said.out.encode(), said.err.encode(), *(p.read_bytes() for p in written)):
        assert b"canary-" not in text
    assert b"low_items" in (tmp_path / "run" / "trace.jsonl").read_bytes()
