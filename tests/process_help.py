"""Which processes run, and waiting for what is true soon."""

import asyncio
import os
from collections.abc import Callable

import psutil


def processes_with(word: str) -> list[str]:
    """Command lines of other processes that have `word` in theirs."""
    lines = [
        " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]) if each.pid != os.getpid()
    ]
    return [line for line in lines if word in line]


async def until(true: Callable[[], object]) -> None:
    for _ in range(600):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came to be")
