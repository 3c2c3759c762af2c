"""Wiring only: which node follows which. `build_graph` returns the compiled state machine.

Custom stream events and their fields are listed in docs/architecture.md.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import get_runtime

from steergraph.agents.nodes import Nodes
from steergraph.agents.policy import Policy, RouterName
from steergraph.agents.router import Router, router_named, rules
from steergraph.agents.run_config import Context
from steergraph.agents.services import Services
from steergraph.agents.specialists import RETRIEVE, Roster
from steergraph.agents.speech.model_settings import model_plans
from steergraph.agents.state import Input, Output, State
from steergraph.engine.protocol import Engine
from steergraph.retrieval.retriever import BM25Retriever, Retriever
from steergraph.retrieval.term_cache import TermCache


def build_graph(
    model: str = "pocket",
    *,
    engine: Engine | None = None,
    roster: Roster | str | Path | None = None,
    policy: Policy | str | Path | None = None,
    settings: str | Path | None = None,
    retriever: Retriever | None = None,
    router: Router | RouterName = rules,
    cache_dir: Path | None = None,
    checkpointer: BaseCheckpointSaver[str] | None = None,
) -> CompiledStateGraph[State, Context, Input, Output]:
    """The compiled graph, named "steergraph".

    Args:
        model: "pocket", a Hugging Face id, a folder, a GGUF file or a server's address (docs/models.md); loaded on
            the first step that needs it.
        engine: an engine to use instead of loading `model`; it may be shared between graphs, and stays open.
        roster: specialists, or a YAML file laid over the packaged ones.
        policy: when to steer, or a YAML file laid over the packaged one.
        settings: how the model is talked to: a YAML file laid over its own page (configs/models/settings/).
        retriever: how context is found; BM25 by default.
        router: who speaks in which order; rules by default, "model" or "activation" ask or listen to the model.
        cache_dir: where mirrors and vectors are kept; the user's cache folder by default.
        checkpointer: left out when the graph goes into another one, which brings its own.

    Returns:
        The graph, compiled. It takes `Input`, gives `Output`, and its runs are told apart by `Context`.

    Raises:
        ConfigError: the roster or the policy is broken.
        InputError: when it runs, where a task can't be done at all: no such repository, an empty problem.
    """
    services = Services(
        model=model,
        engine=engine,
        roster=roster,
        policy=policy,
        settings=settings,
        retriever=retriever or BM25Retriever(cache=TermCache()),
        router=rules if isinstance(router, str) else router,
        cache_dir=cache_dir,
    )
    if isinstance(router, str):
        services.router = router_named(router, lambda: services.engine, cache_dir)
    return graph_builder(services).compile(checkpointer=checkpointer, name="steergraph")


@cache
def graph() -> CompiledStateGraph[State, Context, Input, Output]:
    """The zero-argument factory that langgraph.json names: pocket and all defaults, one graph for every call."""
    return build_graph()


def graph_builder(services: Services) -> StateGraph[State, Context, Input, Output]:
    """The graph before it is compiled, for hosts that compile it themselves."""
    roster = services.wiring
    builder = StateGraph(State, context_schema=Context, input_schema=Input, output_schema=Output)
    plans = _successors(roster, model_plans())
    nodes = Nodes(services, plans)
    for name in ("route", RETRIEVE, *roster.names, "edit", "check", "answer", "finish"):
        builder.add_node(name, nodes.body(name))

    def after_check(state: State) -> str:
        return next_step(state) if state.get("patch") else _again_or_finish(services, state)

    def after_edit(state: State) -> str:
        return "check" if state.get("candidate") else _again_or_finish(services, state)

    editors = [s.name for s in roster.specialists if s.output == "edits"]
    builder.add_edge(START, "route")
    builder.add_conditional_edges("route", next_step, _paths(plans["route"]))
    builder.add_conditional_edges(RETRIEVE, next_step, _paths(plans[RETRIEVE]))
    for specialist in roster.specialists:
        if specialist.output == "text":
            builder.add_conditional_edges(specialist.name, next_step, _paths(plans[specialist.name]))
        else:
            then = "edit" if specialist.output == "edits" else "answer"
            builder.add_conditional_edges(specialist.name, _spoken(then), _paths({then, "finish"}))
    after = set().union(*(plans[name] for name in editors)) if editors else set()
    builder.add_conditional_edges("edit", after_edit, _paths({"check", "finish", *editors}))
    builder.add_conditional_edges("check", after_check, _paths({"finish", *editors, *after}))
    builder.add_edge("answer", "finish")
    builder.add_edge("finish", END)
    return builder


def next_step(state: State) -> str:
    """The plan's next node, or `finish` where the plan or the budget is at its end."""
    if state.get("status") == "out_of_budget" or state["cursor"] >= len(state["plan"]):
        return "finish"
    return state["plan"][state["cursor"]]


def _spoken(then: str) -> Any:
    def after(state: State) -> str:
        return "finish" if state.get("status") == "out_of_budget" else then

    return after


def _again_or_finish(services: Services, state: State) -> str:
    """Repair is bounded here: LangGraph's own recursion limit is too high to be a bound."""
    context = Context.of(get_runtime(Context).context)
    bound = services.policy.repair.max if context.max_repairs is None else context.max_repairs
    out_of_time = context.max_seconds and state["seconds"] >= context.max_seconds
    out_of_tokens = context.max_tokens and state["tokens"] >= context.max_tokens
    if state["attempt"] >= bound or out_of_time or out_of_tokens:
        return "finish"
    return state["plan"][state["cursor"] - 1]


def _successors(roster: Roster, more: Iterable[Sequence[str]] = ()) -> dict[str, set[str]]:
    """For every node that can be in a plan, and `route`: the nodes that can follow it in some plan of the roster or of
    `more`, and `finish`."""
    answering = {s.name for s in roster.specialists if s.output == "answer"}
    follow: dict[str, set[str]] = {name: {"finish"} for name in ("route", RETRIEVE, *roster.names)}
    theirs = [plan for plan in more if {*plan} <= {*follow, "DOMAIN"}]
    for plan in (*roster.plans.values(), *theirs):
        expanded = [answering if step == "DOMAIN" else {step} for step in plan]
        for sources, targets in zip([{"route"}, *expanded], expanded, strict=False):
            for source in sources:
                follow[source] |= targets
    return follow


def _paths(targets: set[str]) -> dict[Hashable, str]:
    return {name: name for name in sorted(targets)}
