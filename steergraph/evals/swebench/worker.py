"""One sample of one instance: the graph on one engine, the sample's own state, and its end as plain data.

Knows the graph, the engine and one sample's folder. Knows nothing of the other samples, of threads or of clusters: the
same worker runs in this process and in a Ray actor. What an instance does wrong becomes its outcome; only what makes
the whole run impossible is raised.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import Field

from steergraph.agents.checkpoints import open_checkpoints, state_errors
from steergraph.agents.driving import drive, provenance, record_of, services_of
from steergraph.agents.edits.meaning import edit_key
from steergraph.agents.graph import graph_builder
from steergraph.agents.instances import task_of
from steergraph.agents.run_config import Context
from steergraph.agents.state import PATCHED
from steergraph.base.errors import InputError
from steergraph.base.files import CannotWrite, append_line, held
from steergraph.base.records import Frozen
from steergraph.base.text import printable
from steergraph.engine.protocol import Engine
from steergraph.evals.swebench.candidates import patch_problems
from steergraph.evals.swebench.config import BatchConfig
from steergraph.evals.swebench.sources import Source
from steergraph.repo.git import redact
from steergraph.repo.repository import Repository

_ZOMBIE_S = 60.0


class RunStopped(InputError):
    """Nothing more can be done in this run: its state or its files can't be kept. It can be gone on with later."""


class Unit(Frozen):
    """One sample to be made."""

    row: dict[str, str]
    preset: str
    sample: int
    source: Source
    repo: str | None = Field(default=None, repr=False)
    """Where the repository is; with credentials, perhaps. None: there is none."""

    @property
    def instance_id(self) -> str:
        return self.row["instance_id"]

    @property
    def name(self) -> str:
        return f"{self.preset}/{self.instance_id}/{self.sample}"


class Done(Frozen):
    """A sample's end. `outcome` is what outcome.json holds; `trace` are lines that are not in its folder yet."""

    unit: Unit
    outcome: dict[str, Any]
    trace: tuple[dict[str, Any], ...] = ()


class Worker:
    """Makes samples, several at a time if called from several threads. `state` is a Postgres URL, or None: SQLite."""

    def __init__(self, config: BatchConfig, engine: Engine, state: str | None = None) -> None:
        self.config = config
        self.engine = engine
        self._services = services_of(config, engine)
        self._builder = graph_builder(self._services)
        self._prepared: dict[tuple[str | None, str], str | None] = {}
        """By repository and commit: why it can't be had, None where it can."""
        self._stack = ExitStack()
        self._saver = self._stack.enter_context(open_checkpoints(state)) if state else None

    def close(self) -> None:
        """Let go of the database. The engine stays open."""
        self._stack.close()

    def prepare(self, unit: Unit) -> None:
        """Have the unit's repository, and its commit, at hand. May take as long as a clone. Never raises for a
        repository that can't be had: the sample then says so in its outcome."""
        wanted = (unit.repo, unit.row["base_commit"])
        if wanted in self._prepared:
            return
        why = None
        if unit.repo is None:
            why = f"no repository of {unit.row['repo'] or 'an unknown project'} was found"
        else:
            try:
                # With its credentials, if there are any; what follows finds the mirror by the address alone.
                with Repository.open(unit.repo) as repository:
                    repository.resolve(unit.row["base_commit"] or None)
            except InputError as error:
                why = _line(error)
        self._prepared[wanted] = why

    def run(self, unit: Unit, folder: Path) -> Done:
        """Make a sample, or go on with it. `folder` is its own; its trace and SQLite state go there.

        Raises RunStopped where state or files can't be kept, and whatever the engine raises once it is closed.
        """
        context = self._context(unit)
        started = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        # A worker whose node was given up may live a little longer.
        refused = f"{folder}: another worker is still at it"
        with held(folder / "lock", refused, patience_s=_ZOMBIE_S, refusal=RunStopped):
            try:
                values, error = self._values(unit, context, folder)
            except state_errors() as lost:
                raise RunStopped(f"graph state can't be kept any more: {type(lost).__name__}") from lost
        if error is None:
            outcome = record_of(values, context, self._services.policy, self.engine.info, self.config.command)
        else:
            outcome = {
                "status": "error",
                "error": error,
                "patch": None,
                "steps": values.get("steps") or [],
                "tokens": values.get("tokens") or 0,
                "seconds": values.get("seconds") or time.monotonic() - started,
                "files_found": values.get("files_found") or [],
                "problems": values.get("problems") or [],
                "provenance": provenance(context, self._services.policy, self.engine.info, self.config.command),
            }
        outcome["source"] = unit.source.model_dump(mode="json")
        outcome["sample"] = unit.sample
        outcome["edit"] = self._edit(values) if outcome["status"] in PATCHED else None
        return Done(unit=unit, outcome=outcome)

    def forget(self, unit: Unit, folder: Path) -> None:
        """Remove the state of a finished sample."""
        forget(self._saver, self.config.uid, unit, folder)

    def _values(self, unit: Unit, context: Context, folder: Path) -> tuple[dict[str, Any], str | None]:
        """The state at the end, and what went wrong, in one line."""
        thread: Any = {"configurable": {"thread_id": thread_of(self.config.uid, unit)}}

        def trace(event: Mapping[str, Any]) -> None:
            append_line(folder / "trace.jsonl", event)

        self.prepare(unit)
        lacking = self._prepared[unit.repo, unit.row["base_commit"]]
        if lacking is None and not unit.row["problem_statement"].strip():
            lacking = "the row's problem_statement is empty"
        if lacking:
            trace({"event": "error", "error": lacking})
            return {}, lacking
        with ExitStack() as stack:
            saver = self._saver or stack.enter_context(open_checkpoints(folder / "checkpoint.sqlite"))
            graph = self._builder.compile(checkpointer=saver, name="steergraph")
            try:
                task = task_of(unit.row, redact(str(unit.repo)))
                return drive(graph, thread, task.model_dump(mode="json"), context, trace), None
            except Exception as error:
                if isinstance(error, (CannotWrite, *state_errors())) or _closed(error):
                    raise
                line = _line(error)
                trace({"event": "error", "error": line})
                return dict(graph.get_state(thread).values), line

    def _context(self, unit: Unit) -> Context:
        source = unit.source.model_dump(exclude={"kind"})
        return self.config.model_copy(update={"preset": unit.preset, **source})

    def _edit(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a patch means, for candidates to be compared by."""
        task, files = values["task"], values["candidate"]["files"]
        repository = self._services.repository(task["repo"])
        key, empty = edit_key(files, lambda path: repository.read_text(task["base_commit"], path))
        return {"key": key, "empty": empty, "refused": list(patch_problems(values["patch"] or ""))}


def thread_of(uid: str, unit: Unit) -> str:
    """The name of a sample's thread in its checkpoints; a database may hold those of many runs."""
    return f"{uid}/{unit.name}"


def forget(saver: BaseCheckpointSaver[str] | None, uid: str, unit: Unit, folder: Path) -> None:
    """Remove the graph state of a finished sample: its thread in `saver`, its SQLite file in `folder`.

    Raises RunStopped where the database is gone.
    """
    if saver is not None:
        try:
            saver.delete_thread(thread_of(uid, unit))
        except state_errors() as lost:
            raise RunStopped(f"graph state can't be removed: {type(lost).__name__}") from lost
    for left in (*folder.glob("checkpoint.sqlite*"), folder / "lock"):
        left.unlink(missing_ok=True)


def _closed(error: Exception) -> bool:
    """Whether the engine was closed under the sample: the run is ending, and the sample is not at fault."""
    from steergraph.engine.local import EngineClosed

    return isinstance(error, EngineClosed)


def _line(error: Exception) -> str:
    words = " ".join(redact(str(error)).split())[:500]
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return printable(f"{kind}{words}", "?") or type(error).__name__
