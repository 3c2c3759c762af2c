"""An engine that says what it is told, for testing graphs, rosters and hosts without a model.

It validates and records every request, counts tokens as words and marks, and steers nothing: its receipts are None.
Nor does it hold an answer to a grammar: it takes none, says so (`grammars`), and `complete` is None.
"""

import asyncio
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from steergraph.engine.constrain.grammar import GrammarKind
from steergraph.engine.protocol import (
    Completion,
    FinishReason,
    Message,
    ModelInfo,
    Named,
    Request,
    ScoreRequest,
    Scores,
    Usage,
)

Reply = Callable[[Request], str]


class ScriptedHandle:
    """A finished completion behind the protocol's Handle."""

    def __init__(self, completion: Completion) -> None:
        self._completion = completion

    def result(self, timeout: float | None = None) -> Completion:
        return self._completion

    def stream(self) -> Iterator[str]:
        yield from re.findall(r"\s*\S+\s*", self._completion.text)

    def cancel(self) -> None:
        return None

    def __await__(self) -> Generator[Any, None, Completion]:
        yield from asyncio.sleep(0).__await__()
        return self._completion


class ScriptedEngine:
    """Answers each request with `reply(request)`, and ends for `finish_reason`. `requests` holds every one it was
    asked."""

    def __init__(
        self,
        reply: Reply,
        *,
        library: Named | None = None,
        window: int = 4096,
        finish_reason: FinishReason = "stop",
    ) -> None:
        self._reply = reply
        self._finish: FinishReason = finish_reason
        self._library = library or {}
        self._info = ModelInfo(
            name="scripted",
            revision="0",
            architecture="scripted",
            n_layers=12,
            hidden_size=8,
            window=window,
            kind="instruct",
        )
        self.requests: list[Request] = []

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def library(self) -> Named:
        return self._library

    @property
    def grammars(self) -> frozenset[GrammarKind]:
        return frozenset()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(4 + len(_words(message.content)) for message in messages)

    def submit(self, request: Request) -> ScriptedHandle:
        self.requests.append(request)
        text = self._reply(request)
        usage = Usage(
            prompt_tokens=self.count_tokens(request.messages or ()), completion_tokens=len(_words(text)), seconds=0.0
        )
        return ScriptedHandle(
            Completion(text=text, thinking="", token_ids=(), finish_reason=self._finish, usage=usage, receipt=None)
        )

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self.submit(request).result() for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Every token of a continuation at the same log-probability, so that shorter continuations score higher."""
        words = [_words(r.continuation) if isinstance(r.continuation, str) else r.continuation for r in requests]
        return [Scores(logprobs=(-1.0,) * len(w), token_ids=tuple(range(len(w))), receipt=None) for w in words]

    def close(self) -> None:
        return None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)
