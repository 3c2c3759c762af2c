"""Grading by the official harness as it is, in containers. Starts it; changes nothing about it.

Knows the harness's command line and files. It runs as a process of its own with the output folder as its working
folder, which is not put on its import path, and without reading any `.env`. An image that the daemon has under the
row's `image` name is used as it is; others are pulled.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.evals.grading.rows import SAFE_NAME, Prediction, Row

LOGS = Path("logs/run_evaluation")
_PING_S = 30.0
_SPARE_S = 600.0
_PING = "import docker; docker.from_env(timeout=15).ping()"


class NoDaemon(InputError):
    """No Docker daemon answers. One line."""


def run_official(
    predictions: Sequence[Prediction],
    rows: Mapping[str, Row],
    out: Path,
    run_id: str,
    *,
    jobs: int = 1,
    timeout_s: int = 1800,
) -> list[tuple[Path, dict[str, Any]]]:
    """Grade with `swebench.harness.run_evaluation`, once for each model. Returns each final report and its file.

    To the report are added `reasons` (error id to one line) and `gold_ids`. Finished instances are skipped by the
    harness itself. Raises NoDaemon, and InputError where the harness ends without a report.
    """
    if not SAFE_NAME.fullmatch(run_id):
        raise InputError(f"{run_id[:80]!r} cannot name a run: letters, digits, dot, dash and underscore can")
    ping()
    folder = out / LOGS / run_id
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for model in sorted({each.model for each in predictions}):
        own = [each for each in predictions if each.model == model]
        dataset, asked = folder / "dataset.json", folder / f"predictions.{model}.json"
        write_whole(dataset, json.dumps([rows[each.instance_id].columns for each in own], default=str))
        write_whole(asked, json.dumps([_as_harness_reads(each) for each in own]))
        report = out / f"{model}.{run_id}.json"
        before = report.stat().st_mtime_ns if report.exists() else 0
        words = ["-d", str(dataset), "-p", str(asked), "-id", run_id, "--max_workers", str(jobs), "-t", str(timeout_s)]
        limit = _SPARE_S + (timeout_s + 300) * (len(own) / jobs + 1)
        _harness([*words, "--report_dir", str(out)], out, folder / f"harness.{model}.log", limit)
        if not report.is_file() or report.stat().st_mtime_ns == before:
            raise InputError(f"the harness ended without a report: {_last_line(folder / f'harness.{model}.log')}")
        said: dict[str, Any] = json.loads(report.read_text())
        said["reasons"] = {name: _why(folder / model / name) for name in said["error_ids"]}
        said["gold_ids"] = sorted(each.instance_id for each in own if each.is_gold)
        write_whole(report, json.dumps(said, indent=4) + "\n")
        found.append((report, said))
    return found


def ping() -> None:
    """Raises NoDaemon where no daemon answers within half a minute, or docker's Python package is missing."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PING], capture_output=True, text=True, timeout=_PING_S, check=False
        )
        why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no answer"])[-1]
    except subprocess.TimeoutExpired:
        why = "no answer in time"
    if why:
        raise NoDaemon(f"no Docker daemon ({why[:200]}): start one or set DOCKER_HOST, or take --executor sandbox")


def _as_harness_reads(prediction: Prediction) -> dict[str, Any]:
    # Half characters cannot be written by the harness either; it would name the instance an error without a word.
    patch = prediction.patch and prediction.patch.encode("utf-8", "replace").decode()
    return {"instance_id": prediction.instance_id, "model_patch": patch, "model_name_or_path": prediction.model}


def _harness(words: Sequence[str], cwd: Path, log: Path, limit_s: float) -> None:
    environment = dict(os.environ) | {"PYTHON_DOTENV_DISABLED": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "swebench.harness.run_evaluation", *words],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"the harness took longer than {limit_s:g} s and was stopped (see {log})") from error
        finally:
            if process.poll() is None:
                # An interrupt lets it stop its containers.
                for number, patience in ((signal.SIGINT, 60.0), (signal.SIGKILL, 10.0)):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(patience)
                        break


def _why(folder: Path) -> str:
    """What an instance's log says of its end, in one line."""
    try:
        text = (folder / "run_instance.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "the harness wrote no log of it"
    told = re.findall(r"(>>>>> Patch Apply Failed|Test timed out after [^\n]*|Error creating container[^\n]*)", text)
    errors = re.findall(r"^[\w.]*(?:Error|Exception): [^\n]+", text, flags=re.MULTILINE)
    said = told[-1].replace(">>>>> ", "") if told else errors[-1] if errors else "see its run_instance.log"
    return " ".join(said.split())[:300]


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
