"""The run folder: what one run was asked, what happened, and how it ended.

Every file but the trace is written whole or not at all; the trace grows by whole lines. Knows nothing of the terminal.
"""

import fcntl
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig

from steergraph.configs import InputError

THREAD: RunnableConfig = {"configurable": {"thread_id": "run"}}


class RunFolder:
    """One run's files: run.json, checkpoint.sqlite, trace.jsonl, then patch.diff, prediction.jsonl, outcome.json."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, out: str | None, name: str, asked: Mapping[str, Any]) -> "RunFolder":
        """A new folder, at `out` or as runs/TIME-name. Raises InputError where it can't be written or holds a run."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
        path = Path(out) if out else Path("runs") / f"{stamp}-{slug}"
        if out and (path / "run.json").exists():
            raise InputError(f"{path} already holds a run: resume it with --resume, or name another folder")
        try:
            path = _made(path, exist_ok=bool(out))
        except OSError as error:
            raise InputError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path)
        folder.write("run.json", json.dumps(asked, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: str) -> "RunFolder":
        """An existing run's folder. Raises InputError where there is none."""
        if not (Path(path) / "run.json").is_file():
            raise InputError(f"{path}: no run to resume here (run.json is missing)")
        folder = cls(Path(path))
        lacking = {"model", "roster", "vectors", "policy", "input", "context", "command"} - folder.asked.keys()
        if lacking:
            raise InputError(f"{path}/run.json: not a run's record: it lacks {sorted(lacking)[0]}")
        return folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run, across processes. Raises InputError where another process works on it."""
        with (self.path / "run.json").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"{self.path}: another process is working on this run") from error
            yield

    @property
    def asked(self) -> dict[str, Any]:
        try:
            asked: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / 'run.json'}: not readable: {error}") from error
        return asked

    def write(self, name: str, text: str) -> None:
        """Write a file whole, by rename. Raises InputError on a full disk or a read-only folder."""
        target = self.path / name
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(
                "w", dir=self.path, prefix=f".{name}.", delete=False, encoding="utf-8", newline=""
            ) as file:
                temporary = Path(file.name)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise InputError(f"cannot write {target}: {error.strerror}") from error

    def append_trace(self, event: Mapping[str, Any]) -> None:
        """Add one line to trace.jsonl. A line that a kill cut short is dropped first."""
        path = self.path / "trace.jsonl"
        try:
            with path.open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        file.truncate(_last_line_start(file, size))
                file.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error

    @contextmanager
    def checkpointer(self) -> Iterator[Any]:
        """The run's SQLite checkpointer. Raises InputError where the file is damaged or can't be written."""
        from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
        from langgraph.checkpoint.sqlite import SqliteSaver

        path = self.path / "checkpoint.sqlite"
        try:
            connection = sqlite3.connect(path, check_same_thread=False)
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot open the checkpoint: {error}") from error
        try:
            saver = SqliteSaver(connection, serde=JsonPlusSerializer())
            saver.setup()
            yield saver
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot use the checkpoint: {error}") from error
        finally:
            connection.close()


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


def _last_line_start(file: Any, size: int) -> int:
    position = size
    while position > 0:
        step = min(65536, position)
        file.seek(position - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return int(position - step + found + 1)
        position -= step
    return 0
