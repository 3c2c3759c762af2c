"""The suite says last what it left out, and for want of what."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    where = {"STEERGRAPH_CACHE": str(tmp_path), "STEERGRAPH_DATA": str(tmp_path / "none"), "STEERGRAPH_MODELS": ""}
    named = ["engine/test_engine_real.py::test_what_is_known_of_it", "engine/test_engine_gguf.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-k", "what_is_known or tokens_are_qwen2s", *named],
        capture_output=True,
        text=True,
        cwd=TESTS,
        env={**os.environ, **where},
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    assert len(told) == 1, done.stdout + done.stderr
    assert "1 for want of the model smollm2 (steergraph models fetch smollm2)" in told[0]
    assert "1 for want of the data folder (STEERGRAPH_DATA)" in told[0]
