"""The run folder: what one run was asked, what happened, and how it ended.

Every file but the trace is written whole or not at all; the trace grows by whole lines. Knows nothing of the terminal.
"""

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig

from steergraph.agents.checkpoints import open_checkpoints, shown
from steergraph.agents.driving import outcome_of, public_command, record_of
from steergraph.agents.edits.diffs import diff_bytes
from steergraph.agents.instances import prediction
from steergraph.agents.policy import Policy
from steergraph.agents.run_config import Context, RunConfig
from steergraph.agents.state import Outcome
from steergraph.base.errors import InputError, one_line
from steergraph.base.files import append_line, held, write_whole
from steergraph.base.folders import check_outside_package
from steergraph.engine.protocol import ModelInfo


class RunFolder:
    """One run's files: run.json, checkpoint.sqlite, trace.jsonl, then patch.diff, prediction.jsonl, outcome.json.

    `state` is the URL of a database that graph state is kept in instead of checkpoint.sqlite. It is never written.
    """

    def __init__(self, path: Path, state: str | None = None) -> None:
        self.path = path
        self._state = state

    @classmethod
    def create(cls, out: str | None, name: str, record: Mapping[str, Any], state: str | None = None) -> "RunFolder":
        """A new folder, at `out` or as runs/TIME-name. Raises InputError where it can't be written or holds a run."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
        path = Path(out) if out else Path("runs") / f"{stamp}-{slug}"
        need_free(out)
        check_outside_package(out)
        try:
            path = _made(path, exist_ok=bool(out))
        except OSError as error:
            raise InputError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path, state)
        folder.write("run.json", json.dumps(record, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: str, state: str | None = None) -> "RunFolder":
        """An existing run's folder. Raises InputError where there is none, or its state is in a database not given."""
        if not (Path(path) / "run.json").is_file():
            raise InputError(f"{path}: no run to resume here (run.json is missing)")
        folder = cls(Path(path), state)
        record = folder.record
        if lacking := {"model", "roster", "vectors", "policy", "input", "context", "command"} - record.keys():
            raise InputError(f"{path}/run.json: not a run's record: it lacks {sorted(lacking)[0]}")
        if not isinstance(record["input"], dict):
            raise InputError(f"{path}/run.json: input: not an object")
        database = record.get("state")
        if database and not state:
            raise InputError(f"{path}: its state is at {database}: give that URL with --state or in STEERGRAPH_STATE")
        return folder if database else cls(Path(path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run, across processes. Raises InputError where another process works on it."""
        with held(self.path / "run.json", f"{self.path}: another process is working on this run"):
            yield

    @property
    def thread(self) -> RunnableConfig:
        """The run's thread in its checkpoints."""
        return {"configurable": {"thread_id": self.record.get("thread") or "run"}}

    @property
    def record(self) -> dict[str, Any]:
        """What run.json holds. Raises InputError where it can't be read."""
        try:
            record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.path / 'run.json'}: not readable: {one_line(str(error))}") from error
        if not isinstance(record, dict):
            raise InputError(f"{self.path / 'run.json'}: not a run's record: it is no object")
        return record

    @property
    def config(self) -> RunConfig:
        """What the run was told. Raises InputError where run.json says what can't be."""
        return RunConfig.of_record(self.record, f"{self.path}/run.json")

    def keep_outcome(self, values: Mapping[str, Any], policy: Policy, info: ModelInfo) -> Outcome:
        """Write what a finished state says: outcome.json, and of an issue patch.diff and prediction.jsonl first."""
        config, outcome = self.config, outcome_of(values)
        record = record_of(values, config, policy, info, self.record["command"])
        if values["task"]["kind"] == "issue":
            instance = values["task"].get("instance_id") or "local"
            row = prediction(instance, outcome.patch, info.name, config.arm)
            files = (values.get("candidate") or {}).get("files", {})
            self.write("patch.diff", diff_bytes(outcome.patch or "", files))
            self.write("prediction.jsonl", json.dumps(row) + "\n")
        self.write("outcome.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return outcome

    def write(self, name: str, text: str | bytes) -> None:
        """Write a file whole, by rename. Raises InputError on a full disk or a read-only folder."""
        write_whole(self.path / name, text)

    def append_trace(self, event: Mapping[str, Any]) -> None:
        """Add one line to trace.jsonl. A line that a kill cut short is dropped first."""
        append_line(self.path / "trace.jsonl", event)

    @contextmanager
    def checkpointer(self) -> Iterator[Any]:
        """The run's checkpointer. Raises InputError where its file is damaged or its server can't be reached."""
        with open_checkpoints(self._state or self.path / "checkpoint.sqlite") as saver:
            yield saver


def need_free(out: str | None) -> None:
    """Before anything is loaded: raise InputError where a run's folder can't be made at `out`, or has other files."""
    if out is None:
        return
    path = Path(out)
    try:
        if (path / "run.json").exists():
            raise InputError(f"{path} already holds a run: resume it with --resume, or name another folder")
        if path.exists() and not path.is_dir():
            raise InputError(f"cannot make the run folder {path}: a file is there")
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"{path}: there are other files in it: name a new folder, or an empty one")
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise InputError(f"cannot make the run folder {path}: {error.strerror}") from error
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"cannot make the run folder {path}: {above} can't be written into")


def run_record(config: RunConfig, task_input: Mapping[str, Any], state: str | None, command: str) -> dict[str, Any]:
    """What run.json holds: what the run was told, its task, where its graph state is, and its command line."""
    told = config.record("run")
    context = {name: told.pop(name) for name in Context.model_fields if name in told}
    return {
        **told,
        "input": dict(task_input),
        "context": context,
        "state": shown(state) if state else None,
        "thread": uuid.uuid4().hex if state else "run",
        "command": public_command(command, state),
    }


def _made(path: Path, exist_ok: bool) -> Path:
    """Make the folder `path`, or the first of path-2, path-3, ... that is not there yet."""
    for n in count(1):
        candidate = path if n == 1 else path.with_name(f"{path.name}-{n}")
        try:
            candidate.mkdir(parents=True, exist_ok=exist_ok)
            return candidate
        except FileExistsError:
            if exist_ok:
                raise
    raise AssertionError("count does not end")
