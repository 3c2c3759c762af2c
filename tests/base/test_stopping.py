"""Cancelling a coroutine ends what it waits for: the thread, and the processes that the thread started."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_graph import TASK, speaks

from steergraph.agents.graph import build_graph
from steergraph.base.cancellation import Stopped, in_thread, stoppable, stopped
from steergraph.engine.scripted import ScriptedEngine
from steergraph.repo.git import GitError, run_git


def processes_with(word: str) -> list[str]:
    """Command lines of processes that have `word` in theirs."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if word in line:
                found.append(line)
    return found


async def until(true: Callable[[], object]) -> None:
    for _ in range(600):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came to be")


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


async def test_cancelling_kills_git() -> None:
    word = f"steergraph.w{os.getpid()}{time.monotonic_ns() % 10**6}"

    def git() -> bytes:
        return run_git(["-c", f"alias.{word.partition('.')[2]}=!sleep 100; :", word.partition(".")[2]], timeout=100)

    ended: list[BaseException] = []

    def work() -> None:
        try:
            git()
        except BaseException as error:
            ended.append(error)
            raise

    task = asyncio.ensure_future(in_thread(work))
    await until(lambda: task.done() or processes_with(word.partition(".")[2]))
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(error) for error in ended] == [Stopped]
    await until(lambda: not processes_with(word.partition(".")[2]))


async def test_a_thread_that_is_not_cancelled_returns_and_raises_as_it_would() -> None:
    def fail() -> None:
        raise GitError("no")

    assert not stoppable() and not stopped()
    assert await in_thread(lambda: (stoppable(), stopped(), run_git(["--version"])[:3])) == (True, False, b"git")
    with pytest.raises(GitError, match=r"took longer than 0\.2 s"):
        await in_thread(lambda: run_git(["-c", "alias.x=!sleep 60; :", "x"], timeout=0.2))
    with pytest.raises(GitError, match="no"):
        await in_thread(fail)
    assert not stoppable()


async def test_a_slow_git_gets_all_of_its_input() -> None:
    """However long it takes to read it."""
    lines = b"".join(b"%d\n" % number for number in range(200_000))
    slow = ["-c", "alias.x=!sleep 0.3; cat; sleep 0.3; :", "x"]
    assert await in_thread(lambda: run_git(slow, input=lines)) == lines
    assert run_git(slow, input=lines) == lines


async def test_an_async_run_says_the_same_as_a_sync_one(sandbox_context: Callable[..., Any]) -> None:
    context = sandbox_context("python -m unittest tests.test_stock")
    graph = build_graph(engine=ScriptedEngine(speaks))
    events = [event["event"] async for event in graph.astream(TASK, context=context, stream_mode="custom")]
    expected = [event["event"] for event in graph.stream(TASK, context=context, stream_mode="custom")]
    assert [event for event in events if event != "text"] == [event for event in expected if event != "text"]
