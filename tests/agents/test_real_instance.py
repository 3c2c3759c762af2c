"""A real SWE-bench instance through the command: with pocket, and with every architecture at random weights."""

import json
from pathlib import Path

import pytest
from tiny_models import ARCHITECTURES, tiny_network

from steergraph.cli import main

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
INSTANCE = "pallets__flask-4045"
GOLD_FILE = "src/flask/blueprints.py"


def run(data: Path, out: Path, *options: str) -> tuple[int, dict, list[dict]]:
    code = main(
        [
            *("run", "--swebench", str(data / "swebench" / "lite_test.parquet"), "--instance", INSTANCE),
            *("--repo", str(data / "repos" / "pallets__flask.bundle"), "--out", str(out), "--max-repairs", "1"),
            *options,
        ]
    )
    trace = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    return code, json.loads((out / "outcome.json").read_text()), trace


def check(code: int, ended: dict, trace: list[dict], out: Path, speakers: tuple[str, ...], steers: set[str]) -> None:
    spoken = [s["specialist"] for s in ended["steps"] if not s["attempt"] and not s["guard"]]
    assert spoken == [*speakers]
    assert all(s["decision"]["rule"] and s["decision"]["reason"] for s in ended["steps"])
    steered = [s for s in ended["steps"] if s["receipt"]]
    assert {s["specialist"] for s in steered} == steers
    assert all(s["receipt"]["components"][0]["relative_dose"] > 0 for s in steered)
    found = next(e for e in trace if e["event"] == "retrieved")
    assert "blueprint" in found["query"].lower() and found["passages"]
    assert GOLD_FILE in [ranked["path"] for ranked in found["ranked"]][:5]
    assert any(e["event"] == "edit" for e in trace)
    from swebench.harness.utils import get_predictions_from_file

    (row,) = get_predictions_from_file(str(out / "prediction.jsonl"), "unused", "test")
    assert row["instance_id"] == INSTANCE
    assert (code, row["model_patch"] == "") in ((0, False), (1, True))


def test_with_pocket(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speakers = ("bug_analysis", "test_reasoning", "code_reading", "patch_writing")
    check(*run(data, tmp_path / "run"), tmp_path / "run", speakers, {"bug_analysis", "test_reasoning"})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_random_weights_and_a_real_tokenizer(architecture, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / f"tiny-{architecture}"
    network = tiny_network(architecture, vocabulary=151_700)
    network.config.max_position_embeddings = 2048
    network.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
        (folder / name).write_bytes((data / "tokenizers" / "qwen2" / name).read_bytes())
    code, ended, trace = run(data, tmp_path / "run", "--model", str(folder), "--max-tokens", "1200")
    check(code, ended, trace, tmp_path / "run", ("bug_analysis", "patch_writing"), {"bug_analysis"})
