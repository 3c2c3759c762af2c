"""Cancelling a coroutine ends what it waits for: the thread, and the processes that the thread started."""

import asyncio
import os
import time

import pytest
from process_help import processes_with, until

from steergraph.base.cancellation import Stopped, in_thread, stoppable, stopped
from steergraph.repo.git import GitError, run_git


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
