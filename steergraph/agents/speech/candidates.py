"""Several answers drawn at once: one turn asked in one batch, the first as if asked alone, the others sampled.

Knows turns and how the engine is asked. What the answers amount to is the edit node's business.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from steergraph.agents.services import Services
from steergraph.agents.speech.model_settings import ModelSettings
from steergraph.agents.speech.speak import aspeak, awaited, end_event, speak, start_event, step_of, streamed
from steergraph.agents.speech.turn import Emit, Turn, unsteered
from steergraph.agents.state import Step
from steergraph.engine.protocol import Handle, Request

_TOP_P = 0.95
_SEEDS = 1_000_003
"""Between the seeds of two candidates, so that no attempt's seed is another's candidate's."""


def requests_of(turn: Turn, candidates: int, settings: ModelSettings, *, penalised: bool = True) -> list[Request]:
    """One request for each candidate: the turn's own, then sampled ones, each with its own seed. They share the tokens
    that the run may still spend.

    `penalised`: with the settings' repetition penalty, which plain OpenAI servers do not know.
    """
    first = turn.request
    if turn.tokens_left is not None:
        bound = min(first.sampling.max_new_tokens, max(1, turn.tokens_left // candidates))
        first = first.model_copy(update={"sampling": first.sampling.model_copy(update={"max_new_tokens": bound})})
    return [first, *(sampled(first, k, settings, penalised=penalised) for k in range(1, candidates))]


def sampled(first: Request, k: int, settings: ModelSettings, *, penalised: bool = True) -> Request:
    """`first` as the `k`-th candidate beside it (from 1) asks it: sampled, by its own seed."""
    sampling = {
        "temperature": settings.temperatures[(k - 1) % len(settings.temperatures)],
        "top_p": _TOP_P,
        "repetition_penalty": settings.repetition_penalty if penalised else 1.0,
    }
    changes = {"seed": first.seed + _SEEDS * k, "sampling": first.sampling.model_copy(update=sampling)}
    return first.model_copy(update=changes)


def draw(services: Services, turn: Turn, candidates: int, emit: Emit) -> list[Step]:
    """Say the turn `candidates` times at once, and once more unsteered where the guard refuses all of them. The first
    is streamed; each is a step."""
    started = time.monotonic()
    handles: list[Handle] = []
    try:
        for request in _begun(services, turn, candidates, emit):
            handles.append(services.engine.submit(request))
        answers = [streamed(handles[0], turn, emit), *(handle.result() for handle in handles[1:])]
    except BaseException:
        for handle in handles:
            handle.cancel()
        raise
    steps = _steps(services, turn, answers, time.monotonic() - started, emit)
    again = _again(turn, steps)
    return [*steps, *(speak(services, again, emit) if again else [])]


async def adraw(services: Services, turn: Turn, candidates: int, emit: Emit) -> list[Step]:
    """`draw` for a running event loop. Cancelling the coroutine cancels the generations."""
    started = time.monotonic()
    handles: list[Handle] = []
    try:
        for request in _begun(services, turn, candidates, emit):
            handles.append(services.engine.submit(request))
        answers = [await awaited(handles[0], turn, emit), *(await asyncio.gather(*handles[1:]))]
    except BaseException:
        for handle in handles:
            handle.cancel()
        raise
    steps = await asyncio.to_thread(_steps, services, turn, answers, time.monotonic() - started, emit)
    again = _again(turn, steps)
    return [*steps, *(await aspeak(services, again, emit) if again else [])]


def _again(turn: Turn, steps: Sequence[Step]) -> Turn | None:
    return unsteered(turn, *steps) if all(step.guard for step in steps) else None


def _begun(services: Services, turn: Turn, candidates: int, emit: Emit) -> list[Request]:
    server, settings = getattr(services.engine, "server", None), services.settings
    penalised = server is None or server.extends
    left_out = {"left_out": "repetition_penalty"} if settings.repetition_penalty != 1 and not penalised else {}
    emit({**start_event(turn), "candidates": candidates, **left_out})
    return requests_of(turn, candidates, settings, penalised=penalised)


def _steps(services: Services, turn: Turn, answers: Sequence[Any], seconds: float, emit: Emit) -> list[Step]:
    """Each answer as a step; the seconds of the batch are shared out, since its rows were spoken side by side."""
    share = seconds / len(answers)
    steps = [
        step_of(services, turn, answer, share).model_copy(update={"candidate": k}) for k, answer in enumerate(answers)
    ]
    for step in steps:
        emit(end_event(step))
    return steps
