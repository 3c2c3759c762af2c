"""One specialist speaks: ask the engine, guard the answer, write the step down.

The turn is the same for the sync and the async body of a node; only the waiting differs.
"""

import asyncio
import time
from typing import Any

from steergraph.agents.services import Services
from steergraph.agents.speech.looking import Look, looked_at
from steergraph.agents.speech.turn import Emit, Turn, unsteered
from steergraph.agents.state import Step, Tokens
from steergraph.engine.protocol import Completion, Handle


def speak(services: Services, turn: Turn, emit: Emit) -> list[Step]:
    """Say the turn, and once more unsteered where the guard refuses it. Returns one step, or two."""
    steps: list[Step] = []
    current: Turn | None = turn
    while current is not None:
        emit(start_event(current))
        started = time.monotonic()
        completion = streamed(services.engine.submit(current.request), current, emit)
        step = step_of(services, current, completion, time.monotonic() - started)
        emit(end_event(step))
        steps.append(step)
        current = unsteered(current, step) if step.guard else None
    return steps


async def aspeak(services: Services, turn: Turn, emit: Emit) -> list[Step]:
    """`speak` for a running event loop. Cancelling the coroutine cancels the generation."""
    steps: list[Step] = []
    current: Turn | None = turn
    while current is not None:
        emit(start_event(current))
        started = time.monotonic()
        # Not in a thread: a cancellation in between would lose the handle. Checking a request takes milliseconds.
        handle = services.engine.submit(current.request)
        completion = await awaited(handle, current, emit)
        step = await asyncio.to_thread(step_of, services, current, completion, time.monotonic() - started)
        emit(end_event(step))
        steps.append(step)
        current = unsteered(current, step) if step.guard else None
    return steps


def streamed(handle: Handle, turn: Turn, emit: Emit) -> Completion:
    """A turn's answer, its pieces shown as they come. Whatever ends the waiting cancels the generation."""
    try:
        for piece in handle.stream():
            emit({"event": "text", "specialist": turn.specialist.name, "text": piece})
        return handle.result()
    except BaseException:  # nobody waits for the rest of it
        handle.cancel()
        raise


async def awaited(handle: Handle, turn: Turn, emit: Emit) -> Completion:
    """`streamed` for a running event loop."""
    name = turn.specialist.name
    pieces = handle.stream()
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            emit({"event": "text", "specialist": name, "text": piece})
        completion: Completion = await handle
        return completion
    except BaseException:  # cancellation above all
        handle.cancel()
        raise


def step_of(services: Services, turn: Turn, completion: Completion, seconds: float) -> Step:
    """What is written down of a turn, with the guard's word on it. With the gate off nothing is looked at, as in the
    published arms."""
    look = Look(text=completion.text)
    if turn.guarded:
        look = looked_at(
            services.engine,
            services.policy.guard,
            turn.request,
            completion,
            note=turn.specialist.output == "text",
            steered=turn.decision.mode != "off",
        )
    return Step(
        specialist=turn.specialist.name,
        attempt=turn.attempt,
        decision=turn.decision,
        receipt=completion.receipt,
        tokens=Tokens(prompt=completion.usage.prompt_tokens, completion=completion.usage.completion_tokens),
        seconds=seconds,
        text=look.text,
        left_off=look.left_off,
        finish_reason=completion.finish_reason,
        guard=look.refused,
        unsure=look.unsure,
        echo=look.echo,
        cut=turn.prompt.cut,
        held_to=turn.held_to,
        prompt=tuple({"role": m.role, "content": m.content} for m in turn.prompt.messages),
    )


def start_event(turn: Turn) -> dict[str, Any]:
    """The custom stream event `step_start`: who speaks, and how."""
    return {
        "event": "step_start",
        "specialist": turn.specialist.name,
        "attempt": turn.attempt,
        "decision": turn.decision.model_dump(mode="json"),
        "prompt_tokens": turn.prompt.tokens,
        "room": turn.request.sampling.max_new_tokens,
        "cut": [cut.model_dump() for cut in turn.prompt.cut],
        **({"held_to": turn.held_to} if turn.held_to else {}),
        **({"not_sayable": list(turn.left_out)} if turn.left_out else {}),
        **({"free": turn.free} if turn.free else {}),
    }


def end_event(step: Step) -> dict[str, Any]:
    """The custom stream event `step_end`: the whole step."""
    return {"event": "step_end", "step": step.model_dump(mode="json")}
