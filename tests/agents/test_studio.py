"""`langgraph dev` serves the graph that langgraph.json names, and answers a run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGGRAPH = Path(sys.executable).with_name("langgraph")


def post(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


@pytest.mark.slow
def test_langgraph_dev_answers_a_run(tmp_path):
    if not LANGGRAPH.exists():
        pytest.skip("langgraph-cli is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shutil.copy(ROOT / "langgraph.json", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "host"\nversion = "0"\n')
    command = [LANGGRAPH, "dev", "--no-browser", "--no-reload", "--port", str(port)]
    log = (tmp_path / "log").open("wb")
    environment = {**os.environ, "LANGSMITH_TRACING": "false", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"{base}/ok", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        out = post(
            f"{base}/runs/wait",
            {
                "assistant_id": "steergraph",
                "input": {"kind": "reasoning", "problem": "Ann has 4 apples and buys 3. How many apples has she?"},
            },
        )
        assert out.get("status") in ("answered", "no_answer"), out
        assert out["steps"][0]["specialist"] == "math"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()
