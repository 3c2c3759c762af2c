"""One run of the graph from the command line: input in, events to the view and the trace, outcome files out.

Knows the run folder and the graph. A run that was killed goes on from its last checkpoint.
"""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steergraph.agents.driving import closing_on_interrupt, drive, outcome_of, record_of
from steergraph.agents.graph import build_graph
from steergraph.agents.instances import prediction
from steergraph.agents.policy import Policy
from steergraph.agents.run_config import Context
from steergraph.agents.state import Outcome
from steergraph.cli.run_folder import RunFolder
from steergraph.engine.protocol import Engine
from steergraph.retrieval.retriever import BM25Retriever
from steergraph.retrieval.term_cache import TermCache

Show = Callable[[Mapping[str, Any]], None]


def run(folder: RunFolder, engine: Engine, show: Show) -> Outcome:
    """Do what run.json says, or go on with it. Writes the outcome's files. Raises InputError for bad input."""
    config = folder.config
    policy = Policy.load(config.policy)
    with folder.locked(), folder.checkpointer() as saver, closing_on_interrupt(engine):
        graph = build_graph(
            engine=engine,
            roster=config.roster,
            policy=policy,
            retriever=BM25Retriever(ranker=config.ranker, cache=TermCache()),
            router=config.router,
            checkpointer=saver,
        )
        values = drive(graph, folder.thread, folder.record["input"], config, folder.append_trace, show)
    outcome = outcome_of(values)
    _write(folder, outcome, values, config, policy, engine)
    return outcome


def arm(context: Context) -> str:
    """A name for the run's settings: the preset, and each axis that was given by itself."""
    axes = ("steering", "retrieval", "gate")
    given = [f"{axis}_{getattr(context, axis)}" for axis in axes if getattr(context, axis) is not None]
    return "-".join([context.preset, *given])


def changed_files(folder: RunFolder) -> tuple[str, dict[str, str | None]]:
    """The base commit, and the files a finished run's patch changes, for `--apply`."""
    with folder.checkpointer() as saver:
        values = saver.get(folder.thread)["channel_values"]
    return values["task"]["base_commit"], (values.get("candidate") or {}).get("files", {})


def _write(
    folder: RunFolder, outcome: Outcome, values: Mapping[str, Any], context: Context, policy: Policy, engine: Engine
) -> None:
    record = record_of(values, context, policy, engine.info, folder.record["command"])
    if values["task"]["kind"] == "issue":
        instance = values["task"].get("instance_id") or "local"
        row = prediction(instance, outcome.patch, engine.info.name, arm(context))
        folder.write("patch.diff", outcome.patch or "")
        folder.write("prediction.jsonl", json.dumps(row) + "\n")
    folder.write("outcome.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def command_line(arguments: Sequence[str] | None) -> str:
    """The command, for the record. `arguments` are those of `main`; None: this process's own."""
    return shlex.join(["steergraph", *(sys.argv[1:] if arguments is None else arguments)])
