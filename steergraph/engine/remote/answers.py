"""A completion as it grows out of a server's chunks.

Knows OpenAI's shapes and what vLLM and `steergraph serve` add to them. Knows nothing of connections.
"""

import time
from collections.abc import Callable
from typing import Any

from pydantic import Field, ValidationError

from steergraph.base.errors import first_problem
from steergraph.base.records import Loose
from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING, split_thinking
from steergraph.engine.protocol import Completion, FinishReason, Usage
from steergraph.engine.remote.address import RemoteError
from steergraph.engine.remote.http import AGAIN, Retryable, error_message, parse_json
from steergraph.engine.steering.records import Receipt


class _Delta(Loose):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(Loose):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None


class _Details(Loose):
    cached_tokens: int | None = Field(default=None, ge=0)


class _Usage(Loose):
    prompt_tokens: int = Field(default=0, ge=0)
    prompt_tokens_details: _Details | None = None
    completion_tokens: int = Field(default=0, ge=0)


class Extra(Loose):
    """What `steergraph serve` says of an answer."""

    receipt: Receipt | None = None
    opens_thinking: bool = False


class Chunk(Loose):
    """A piece of an answer, or all of it."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    steergraph: Extra | None = None


def parse_chunk(text: str, where: str) -> Chunk:
    """Raises RemoteError where it is no chunk, or tells of an error; Retryable where that error may pass."""
    found = parse_json(text, where)
    if isinstance(found, dict) and found.get("error"):
        error = found["error"]
        code: Any = error.get("code") if isinstance(error, dict) else None
        message = error_message(found) or "an error without a message"
        if code in AGAIN:
            raise Retryable(message)
        raise RemoteError(f"{where}: {message}")
    try:
        return Chunk.model_validate(found)
    except ValidationError as error:
        raise RemoteError(f"{where}: its answer is of another shape ({first_problem(error)})") from error


class Answer:
    """One generation over all its attempts. What was handed out stays: another attempt has to say the same again."""

    def __init__(self, feed: Callable[[str], None]) -> None:
        self._feed = feed
        self._fed = 0
        self._said = ""
        self.restart()

    def restart(self) -> None:
        """Begin another attempt."""
        self.text = ""
        self.token_ids: tuple[int, ...] = ()
        self.finish: FinishReason | None = None
        self.usage: _Usage | None = None
        self.extra = Extra()
        self.started = time.monotonic()
        self._pieces = 0
        self._reasoning = False

    def take(self, chunk: Chunk) -> None:
        """Raises RemoteError where this attempt says other words than the last one."""
        before = len(self.text)
        self.usage = chunk.usage or self.usage
        self.extra = chunk.steergraph or self.extra
        for choice in chunk.choices[:1]:
            delta = choice.delta or choice.message or _Delta()
            self._reason(delta.reasoning_content or delta.reasoning or "")
            self._say(delta.content or choice.text or "")
            self.token_ids += choice.token_ids or ()
            if choice.finish_reason is not None:
                self.finish = "length" if choice.finish_reason == "length" else "stop"
        self._pieces += len(self.text) > before
        self._hand_out()

    def _reason(self, text: str) -> None:
        """Reasoning that a server took out of the text goes back to where it was."""
        if text:
            self.text += text if self._reasoning else OPEN_THINKING + text
            self._reasoning = True

    def _say(self, text: str) -> None:
        if text:
            self.text += f"{CLOSE_THINKING}{text}" if self._reasoning else text
            self._reasoning = False

    def _hand_out(self) -> None:
        both = min(len(self._said), len(self.text))
        if self.text[:both] != self._said[:both]:
            raise RemoteError("the answer was cut off, and asked again the server gave another one; ask with a seed")
        if len(self.text) > self._fed:
            self._feed(self.text[self._fed :])
            self._said, self._fed = self.text, len(self.text)

    def completion(
        self, finish: FinishReason, prompt_tokens: int, receipt: Callable[[Usage], Receipt | None]
    ) -> Completion:
        """What there is, as a completion. `prompt_tokens` stands in where the server did not say."""
        # Where an attempt after a cut got less far than the one before, that one's text is the answer.
        text = self.text if len(self.text) >= len(self._said) else self._said
        answer, thinking = split_thinking(text, thinking_already=self.extra.opens_thinking)
        counted = self.usage
        details = counted.prompt_tokens_details if counted else None
        usage = Usage(
            prompt_tokens=counted.prompt_tokens if counted and counted.prompt_tokens else prompt_tokens,
            completion_tokens=counted.completion_tokens if counted else len(self.token_ids) or self._pieces,
            seconds=time.monotonic() - self.started,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
        )
        return Completion(
            text=answer,
            thinking=thinking,
            token_ids=self.token_ids,
            finish_reason=finish,
            usage=usage,
            receipt=receipt(usage),
        )
