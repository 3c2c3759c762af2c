"""One run of the graph from the command line: input in, events to the view and the trace, outcome files out.

Knows the run folder and the graph. A run that was killed goes on from its last checkpoint.
"""

import json
import platform
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from steergraph.agents.context import Context
from steergraph.agents.graph import build_graph
from steergraph.agents.policy import Policy
from steergraph.agents.state import Outcome
from steergraph.evals.instances import prediction
from steergraph.runs import THREAD, RunFolder
from steergraph.vectors.engine.protocol import Engine

Show = Callable[[Mapping[str, Any]], None]
_UNTRACED = ("text", "vectors")
_VERSIONS = ("steergraph", "torch", "transformers", "langgraph", "swebench", "rank-bm25", "unidiff", "gitpython")


def run(folder: RunFolder, engine: Engine, show: Show) -> Outcome:
    """Do what `folder.asked` says, or go on with it. Writes the outcome's files. Raises InputError for bad input."""
    asked = folder.asked
    context = Context(**asked["context"])
    policy = Policy.load(asked.get("policy"))
    with folder.locked(), folder.checkpointer() as saver, _closing_on_interrupt(engine):
        graph = build_graph(engine=engine, roster=asked.get("roster"), policy=policy, checkpointer=saver)
        before = graph.get_state(THREAD)
        if not (before.values.get("status") and not before.next):
            given = None if before.next else asked["input"]
            if given is None:
                folder.append_trace({"event": "resumed", "next": list(before.next)})
            for event in graph.stream(given, THREAD, context=context, stream_mode="custom", durability="sync"):
                if event["event"] not in _UNTRACED:
                    folder.append_trace(event)
                show(event)
        values = graph.get_state(THREAD).values
    outcome = Outcome.model_validate({k: v for k, v in values.items() if k in Outcome.model_fields})
    _write(folder, outcome, values, context, policy, engine)
    return outcome


@contextmanager
def _closing_on_interrupt(engine: Engine) -> Iterator[None]:
    """Ctrl-C ends the generation at once: the graph waits for the node that runs, and that node for the engine."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(*_: object) -> None:
        threading.Thread(target=engine.close, daemon=True).start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def arm(context: Context) -> str:
    """A name for the run's settings: the preset, and each axis that was given by itself."""
    axes = ("steering", "retrieval", "gate")
    given = [f"{axis}_{getattr(context, axis)}" for axis in axes if getattr(context, axis) is not None]
    return "-".join([context.preset, *given])


def changed_files(folder: RunFolder) -> tuple[str, dict[str, str | None]]:
    """The base commit, and the files a finished run's patch changes, for `--apply`."""
    with folder.checkpointer() as saver:
        values = saver.get(THREAD)["channel_values"]
    return values["task"]["base_commit"], (values.get("candidate") or {}).get("files", {})


def _write(
    folder: RunFolder, outcome: Outcome, values: Mapping[str, Any], context: Context, policy: Policy, engine: Engine
) -> None:
    asked = folder.asked
    record = outcome.model_dump(mode="json")
    retrieval = values.get("retrieval") or {}
    record |= {
        "task": values["task"],
        "plan": values["plan"],
        "cluster": values.get("cluster"),
        "query": retrieval.get("query"),
        "provenance": {
            "model": engine.info.model_dump(mode="json"),
            "preset": context.preset,
            "axes": context.axes(policy).model_dump(mode="json"),
            "seed": context.seed,
            "command": asked["command"],
            "versions": {name: _version(name) for name in _VERSIONS} | {"python": platform.python_version()},
        },
    }
    if values["task"]["kind"] == "issue":
        instance = values["task"].get("instance_id") or "local"
        row = prediction(instance, outcome.patch, engine.info.name, arm(context))
        folder.write("patch.diff", outcome.patch or "")
        folder.write("prediction.jsonl", json.dumps(row) + "\n")
    folder.write("outcome.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _version(name: str) -> str:
    try:
        return version(name)
    except Exception:  # a source tree that was never installed has no metadata
        return "unknown"


def command_line(arguments: Sequence[str] | None) -> str:
    """The command, for the record. `arguments` are those of `main`; None: this process's own."""
    return shlex.join(["steergraph", *(sys.argv[1:] if arguments is None else arguments)])
