"""A run's engine, and one task through the graph, begun or gone on with: its events to a trace, its end as a record.

Knows the compiled graph and its checkpoints. Knows nothing of folders or the terminal.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph

from steergraph.agents.checkpoints import shown
from steergraph.agents.policy import Policy
from steergraph.agents.router import router_named
from steergraph.agents.run_config import Context, RunConfig
from steergraph.agents.services import Services
from steergraph.agents.specialists import Roster
from steergraph.agents.state import Outcome
from steergraph.base.errors import InputError
from steergraph.base.versions import versions as versions_of
from steergraph.engine.protocol import Engine, ModelInfo
from steergraph.repo.git import redact
from steergraph.retrieval.retriever import BM25Retriever
from steergraph.retrieval.term_cache import TermCache

if TYPE_CHECKING:
    from steergraph.engine.remote.engine import RemoteEngine

Take = Callable[[Mapping[str, Any]], None]
"""Called with an event of the graph's custom stream."""
_UNTRACED = ("text", "vectors")
_PACKAGES = ("steergraph", "torch", "transformers", "langgraph", "swebench", "rank-bm25", "unidiff", "gitpython")


def make_engine(config: RunConfig, max_batch: int = 16) -> Engine:
    """The engine that a run asks for, with its vectors. Raises InputError where the model, the roster or a vector can't
    be used."""
    from steergraph.engine.local import LocalEngine
    from steergraph.engine.opening import open_engine
    from steergraph.engine.remote.address import is_address
    from steergraph.engine.steering.directions import check_fits
    from steergraph.vectors.library import Library

    library = Library.open(Path(config.vectors)) if config.vectors else None
    roster = Roster.load(config.roster)
    engine: LocalEngine | RemoteEngine
    if is_address(config.model):
        if config.weights != "auto":
            raise InputError(f"--weights {config.weights}: a server holds them as it was started; leave it out")
        engine = open_engine(config.model, library)  # a server batches as it likes
    else:
        engine = LocalEngine(
            config.model, library, max_batch=max_batch, deterministic=config.deterministic, weights=config.weights
        )
    try:
        roster.check(engine.info)
        for vector in engine.library.values():
            check_fits(vector, engine.info)
    except BaseException:
        engine.close()
        raise
    return engine


def services_of(config: RunConfig, engine: Engine) -> Services:
    """What a run's graph is built of. Raises ConfigError for a broken roster or policy."""
    return Services(
        model=config.model,
        engine=engine,
        roster=config.roster,
        policy=config.policy,
        settings=config.settings,
        retriever=BM25Retriever(ranker=config.ranker, cache=TermCache()),
        router=router_named(config.router, lambda: engine),
    )


def drive(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    thread: RunnableConfig,
    task_input: Mapping[str, Any],
    context: Context,
    trace: Take,
    show: Take | None = None,
) -> dict[str, Any]:
    """Run `task_input` on `thread`, or go on with what its checkpoints hold, and return the state's values at the end.

    A thread that is at its end is not run again. `trace` gets every event but the pieces of text; `show` gets all.
    """
    before = graph.get_state(thread)
    # Not `next`: it leaves out a step that had answered when the kill came, before the state was put together again.
    coming = [task.name for task in before.tasks]
    if coming or not before.values.get("status"):
        if coming:
            trace({"event": "resumed", "next": coming})
        start = None if coming else task_input
        for event in graph.stream(start, thread, context=context, stream_mode="custom", durability="sync"):
            if event["event"] not in _UNTRACED:
                trace(event)
            if show:
                show(event)
    return dict(graph.get_state(thread).values)


def outcome_of(values: Mapping[str, Any]) -> Outcome:
    """The outcome that a finished state holds."""
    return Outcome.model_validate({k: v for k, v in values.items() if k in Outcome.model_fields})


def record_of(
    values: Mapping[str, Any], context: Context, policy: Policy, info: ModelInfo, command: str
) -> dict[str, Any]:
    """`outcome.json`: a finished state's outcome, its task and plan, and what made it."""
    retrieval = values.get("retrieval") or {}
    return outcome_of(values).model_dump(mode="json") | {
        "task": values["task"],
        "plan": values["plan"],
        "cluster": values.get("cluster"),
        "query": retrieval.get("query"),
        "provenance": provenance(context, policy, info, command),
    }


def provenance(context: Context, policy: Policy, info: ModelInfo, command: str) -> dict[str, Any]:
    """Model, settings, versions and command, for every record that a run leaves."""
    return {
        "model": info.model_dump(mode="json"),
        "preset": context.preset,
        "axes": context.axes(policy).model_dump(mode="json"),
        "seed": context.seed,
        "command": command,
        "versions": versions(),
    }


def public_command(command: str, state: str | None) -> str:
    """A quoted command line without credentials: `state` is a database's URL, which the shell's quotes may split."""
    if state:
        place = shown(state)
        command = command.replace(state, place).replace(state.replace("'", "'\"'\"'"), place)
    return redact(command)


def versions() -> dict[str, str]:
    """Of what a result depends on, for every record: the packages and Python."""
    return versions_of(_PACKAGES)


@contextmanager
def closing_on_interrupt(engine: Engine) -> Iterator[None]:
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
