"""The official harness's own grading, in a process of its own: the only module that imports swebench.

swebench's import takes seconds, loads a `.env` file from above the place where it is installed into the environment,
and its parsers run over text that a patch wrote. So a child process does it, in a folder of its own, with a cleared
environment and a time limit; it speaks JSON lines. Knows specs, logs and reports. Runs no test.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steergraph.base.errors import InputError

_START_S = 180.0
_GRADE_S = 120.0


class OfficialError(InputError):
    """swebench is missing, or could not do one thing. One line."""


class Official:
    """The child process. Safe to use from several threads, one call at a time. A context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="steergraph-official-")

    def ready(self) -> None:
        """Start it, if it is not. Raises OfficialError where swebench cannot be loaded."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def eval_script(self, row: Mapping[str, Any]) -> str:
        """The script that the harness would run for the instance of `row`."""
        return str(self._call("script", row=dict(row)))

    def report(self, row: Mapping[str, Any], prediction: Mapping[str, Any], log: Path) -> dict[str, Any]:
        """The content of `report.json` for the test log at `log`."""
        found: dict[str, Any] = self._call("grade", row=dict(row), prediction=dict(prediction), log=str(log))
        return found

    def run_report(
        self, base: Path, run_id: str, predictions: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Write the final report of the run whose logs lie under `base` into `base`. Returns the file."""
        arguments = {"base": str(base), "run_id": run_id, "predictions": dict(predictions), "rows": list(rows)}
        return base / str(self._call("summary", **arguments))

    def close(self) -> None:
        self._end()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, what: str, **arguments: Any) -> Any:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            process = self._process
            assert process and process.stdin
            try:
                process.stdin.write(json.dumps({"what": what, **arguments}, default=str).encode() + b"\n")
                process.stdin.flush()
            except OSError as error:
                self._end()
                raise OfficialError(f"swebench's grading ended: {error}") from error
            answer = self._answer(_GRADE_S, f"swebench's grading took longer than {_GRADE_S:g} s")
        if "error" in answer:
            raise OfficialError(f"swebench: {answer['error']}")
        return answer["result"]

    def _start(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "TMPDIR") if name in os.environ}
        quiet = {"PYTHON_DOTENV_DISABLED": "1", "HF_HUB_OFFLINE": "1", "HOME": self._folder.name}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "steergraph.evals.grading.official"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env=kept | quiet,
            start_new_session=True,
        )
        answer = self._answer(_START_S, "swebench cannot be loaded")
        if "error" in answer:
            self._end()
            raise OfficialError(f"{answer['error']}: install steergraph[swebench]")

    def _answer(self, timeout_s: float, late: str) -> dict[str, Any]:
        process = self._process
        assert process and process.stdout
        if select.select([process.stdout], [], [], timeout_s)[0] and (line := process.stdout.readline()):
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._end()
        raise OfficialError(late)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None


def _serve() -> None:
    """The child's loop. Standard output carries answers only: swebench's own printing goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    try:
        from swebench.harness.grading import get_eval_report
        from swebench.harness.reporting import make_run_report
        from swebench.harness.utils import make_test_spec
    except ImportError as error:
        say({"error": f"swebench is not to be had here ({error})"})
        return
    say({"result": "ready"})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            result: object
            if asked["what"] == "script":
                result = make_test_spec(asked["row"]).eval_script
            elif asked["what"] == "grade":
                result = get_eval_report(
                    make_test_spec(asked["row"]), asked["prediction"], asked["log"], include_tests_status=True
                )
            else:
                os.chdir(asked["base"])
                result = str(make_run_report(asked["predictions"], asked["rows"], asked["run_id"], None, "."))
            say({"result": result})
        except Exception as error:
            said = (str(error).splitlines() or [""])[0]
            say({"error": f"{type(error).__name__}: {said}"[:300]})


if __name__ == "__main__":
    _serve()
