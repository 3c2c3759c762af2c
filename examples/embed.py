"""steergraph as one node of somebody else's graph.

    python examples/embed.py

The parent has a state of its own: a ticket comes in, steergraph looks for a patch and runs the ticket's test, a person
approves it. The parent brings the checkpointer; steergraph's events stream through it; the interrupt and the resuming
are the parent's.
"""

from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from steergraph import Context, build_graph

HERE = Path(__file__).resolve().parent


class Ticket(TypedDict, total=False):
    text: str
    project: str
    test: str | None
    """A command that fails before the repair and passes after it."""
    patch: str | None
    status: str
    approved: bool


def build_parent(**graph_options: object) -> CompiledStateGraph:
    """The parent graph. `graph_options` go to `steergraph.build_graph`, as in model="org/name"."""
    steergraph = build_graph(**graph_options)

    def solve(ticket: Ticket) -> Ticket:
        # The example project is ours; without `unsafe_tests` its tests need a sandbox on this machine.
        context = Context(test=ticket.get("test"), unsafe_tests=True)
        outcome = steergraph.invoke({"problem": ticket["text"], "repo": ticket["project"]}, context=context)
        return {"patch": outcome["patch"], "status": outcome["status"]}

    def approve(ticket: Ticket) -> Ticket:
        shown = {"question": "apply this patch?", "patch": ticket["patch"], "status": ticket["status"]}
        return {"approved": bool(interrupt(shown))}

    parent = StateGraph(Ticket)
    parent.add_node("solve", solve)
    parent.add_node("approve", approve)
    parent.add_edge(START, "solve")
    parent.add_edge("solve", "approve")
    parent.add_edge("approve", END)
    return parent.compile(checkpointer=InMemorySaver())


def main() -> None:
    parent = build_parent()
    thread = {"configurable": {"thread_id": "ticket-1"}}
    ticket = {
        "text": (HERE / "issues" / "budget.md").read_text(encoding="utf-8"),
        "project": str(HERE / "pantry.bundle"),
        "test": "python -m unittest tests.test_budget",
    }
    asked: dict[str, str | None] = {}
    for namespace, mode, event in parent.stream(ticket, thread, stream_mode=["custom", "updates"], subgraphs=True):
        if mode == "custom" and event["event"] == "step_start":
            decision = event["decision"]
            print(f"{event['specialist']}: steering {decision['mode']} ({decision['rule']})")
        elif mode == "updates" and not namespace and "__interrupt__" in event:
            asked = event["__interrupt__"][0].value
            print(asked["patch"] or "no patch was found")
            print(f"{asked['question']} it is {asked['status']}")
    # Here a person answers. This one takes what a test vouches for, one that failed before and passes now, and no more.
    final = parent.invoke(Command(resume=asked.get("status") == "patched"), thread)
    print(f"approved: {final['approved']}")


if __name__ == "__main__":
    main()
