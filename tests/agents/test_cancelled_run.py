"""A run in a coroutine: cancelling it ends the processes of its tests, and it says what a sync one says."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from process_help import processes_with, until
from test_graph import TASK, speaks

from steergraph.agents.graph import build_graph
from steergraph.engine.scripted import ScriptedEngine


async def test_cancelling_a_run_in_its_tests_kills_them(sandbox_context: Callable[..., Any]) -> None:
    word = f"1{os.getpid()}{time.monotonic_ns() % 10**6}"
    graph = build_graph(engine=ScriptedEngine(speaks))
    context = sandbox_context(f"sh -c 'sleep {word} & wait' {word}", test_seconds=120.0)
    run = asyncio.ensure_future(graph.ainvoke(TASK, context=context))
    await until(lambda: run.done() or len(processes_with(f"sleep {word}")) > 0)
    assert not run.done()
    started = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await until(lambda: not processes_with(word))
    assert time.monotonic() - started < 60  # the command's own limit is 120 s


async def test_an_async_run_says_the_same_as_a_sync_one(sandbox_context: Callable[..., Any]) -> None:
    context = sandbox_context("python -m unittest tests.test_stock")
    graph = build_graph(engine=ScriptedEngine(speaks))
    events = [event["event"] async for event in graph.astream(TASK, context=context, stream_mode="custom")]
    expected = [event["event"] for event in graph.stream(TASK, context=context, stream_mode="custom")]
    assert [event for event in events if event != "text"] == [event for event in expected if event != "text"]
