"""Wiring only: which node follows which. `build_graph` returns the compiled state machine.

Custom stream events and their fields are listed in docs/architecture.md.
"""

from collections.abc import Hashable
from functools import cache, partial
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import get_runtime

from steergraph.agents import nodes
from steergraph.agents.context import Context
from steergraph.agents.policy import Policy
from steergraph.agents.router import Mode, Router, router_named, rules
from steergraph.agents.services import Services
from steergraph.agents.speak import Emit, Turn, aspeak, prepare, speak
from steergraph.agents.specialists import RETRIEVE, Roster, Specialist
from steergraph.agents.state import Input, Output, State, Step
from steergraph.base.cancellation import in_thread
from steergraph.engine.protocol import Engine
from steergraph.retrieval.retriever import BM25Retriever, Retriever
from steergraph.retrieval.term_cache import TermCache


def build_graph(
    model: str = "pocket",
    *,
    engine: Engine | None = None,
    roster: Roster | str | Path | None = None,
    policy: Policy | str | Path | None = None,
    retriever: Retriever | None = None,
    router: Router | Mode = rules,
    cache_dir: Path | None = None,
    checkpointer: BaseCheckpointSaver[str] | None = None,
) -> CompiledStateGraph[State, Context, Input, Output]:
    """The compiled graph, named "steergraph".

    Args:
        model: "pocket", a Hugging Face id, a folder, or a server's address (docs/engines.md); loaded on the first step
            that needs it.
        engine: an engine to use instead of loading `model`; it may be shared between graphs, and stays open.
        roster: specialists, or a YAML file laid over the packaged ones.
        policy: when to steer, or a YAML file laid over the packaged one.
        retriever: how context is found; BM25 by default.
        router: who speaks in which order; rules by default, "model" or "activation" ask or listen to the model.
        cache_dir: where mirrors and vectors are kept; the user's cache folder by default.
        checkpointer: left out when the graph goes into another one, which brings its own.

    The input is `Input`, the output `Output`, the context `Context`. Raises ConfigError for a broken roster or policy.
    A run raises InputError where its task can't be done at all: no such repository, an empty problem.
    """
    services = Services(
        model=model,
        engine=engine,
        roster=roster if isinstance(roster, Roster) else Roster.load(roster),
        policy=policy if isinstance(policy, Policy) else Policy.load(policy),
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
    roster = services.roster
    builder = StateGraph(State, context_schema=Context, input_schema=Input, output_schema=Output)
    plans = _successors(roster)
    builder.add_node("route", _both(nodes.route(services, plans), "route"))
    builder.add_node(RETRIEVE, _both(nodes.retrieve(services), RETRIEVE))
    for specialist in roster.specialists:
        builder.add_node(specialist.name, _speaker(services, specialist.name))
    builder.add_node("edit", _both(nodes.edit(services), "edit"))
    builder.add_node("check", _both(nodes.check(services), "check"))
    builder.add_node("answer", _both(nodes.answer(services), "answer"))
    builder.add_node("finish", _both(nodes.finish(services), "finish"))

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


def _both(node: nodes.Node, name: str) -> RunnableLambda[State, dict[str, Any]]:
    """`node` with an async body too: it runs in a thread, and cancelling it kills the git or the tests it waits for."""

    def body(state: State) -> dict[str, Any]:
        return node(state, runtime=get_runtime(Context))

    async def abody(state: State) -> dict[str, Any]:
        return await in_thread(partial(node, state, runtime=get_runtime(Context)))

    return RunnableLambda(body, abody, name=name)


def _speaker(services: Services, name: str) -> RunnableLambda[State, dict[str, Any]]:
    """A specialist's node, with a sync and an async body."""

    def turn_of(state: State, context: Context, emit: Emit) -> Turn | None:
        if context.max_seconds and state["seconds"] >= context.max_seconds:
            return None
        if context.max_tokens and state["tokens"] >= context.max_tokens:
            return None
        return prepare(services, name, _counted(state), context, emit)

    def node(state: State) -> dict[str, Any]:
        runtime = get_runtime(Context)
        turn = turn_of(state, Context.of(runtime.context), runtime.stream_writer)
        return _spoke(state, turn, speak(services, turn, runtime.stream_writer) if turn else [])

    async def anode(state: State) -> dict[str, Any]:
        import asyncio

        runtime = get_runtime(Context)
        turn = await asyncio.to_thread(turn_of, state, Context.of(runtime.context), runtime.stream_writer)
        return _spoke(state, turn, await aspeak(services, turn, runtime.stream_writer) if turn else [])

    return RunnableLambda(node, anode, name=name)


def _counted(state: State) -> State:
    """A repair round is an attempt more: the check before it left its words in `feedback`."""
    return {**state, "attempt": state["attempt"] + 1} if state.get("feedback") else state


def _spoke(state: State, turn: Turn | None, steps: list[Step]) -> dict[str, Any]:
    if turn is None:
        return {"status": "out_of_budget"}
    last = steps[-1]
    again = bool(state.get("feedback"))
    update: dict[str, Any] = {
        "steps": [*state["steps"], *(step.model_dump(mode="json") for step in steps)],
        "tokens": state["tokens"] + sum(step.tokens.completion for step in steps),
        "seconds": state["seconds"] + sum(step.seconds for step in steps),
        "cursor": state["cursor"] if again else state["cursor"] + 1,
        "attempt": state["attempt"] + 1 if again else state["attempt"],
    }
    if turn.specialist.output == "text":
        update["notes"] = [*state["notes"], {"specialist": last.specialist, "text": last.text}]
    return update


def _successors(roster: Roster) -> dict[str, set[str]]:
    """For every node that can be in a plan, and `route`: the nodes that can follow it in some plan, and `finish`."""
    answering = {s.name for s in roster.specialists if s.output == "answer"}
    follow: dict[str, set[str]] = {name: {"finish"} for name in ("route", RETRIEVE, *_names(roster.specialists))}
    for plan in roster.plans.values():
        expanded = [answering if step == "DOMAIN" else {step} for step in plan]
        for sources, targets in zip([{"route"}, *expanded], expanded, strict=False):
            for source in sources:
                follow[source] |= targets
    return follow


def _names(specialists: tuple[Specialist, ...]) -> list[str]:
    return [s.name for s in specialists]


def _paths(targets: set[str]) -> dict[Hashable, str]:
    return {name: name for name in sorted(targets)}
