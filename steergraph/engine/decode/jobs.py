"""Requests that have been checked: their tokens, the library they may use, and where their answer goes.

Knows requests, tokens and windows. Knows nothing of batches or the model's forward.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from steergraph.base.errors import InputError
from steergraph.engine.constrain.compile import Grammars
from steergraph.engine.constrain.constraint import Constraint
from steergraph.engine.decode.samples import Sample
from steergraph.engine.decode.text import split_thinking
from steergraph.engine.handle import LocalHandle
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.protocol import Completion, FinishReason, Message, Named, Request, ScoreRequest, Scores, Usage
from steergraph.engine.steering.plans import check_steering
from steergraph.engine.steering.records import Receipt, SpentKL, Steering

NOTHING_DONE = Receipt(components=(), prompt_positions=0, generated_positions=0, steered_ranges=())


class Job(Protocol):
    """What the queue needs to know of a job."""

    def fail(self, error: BaseException) -> None: ...

    def end_early(self, now: float) -> bool:
        """Answer now, if it was cancelled or its time is up before it ran; says whether it did."""
        ...


@dataclass(eq=False)
class GenerationJob:
    request: Request
    prompt: list[int]
    library: Named
    handle: LocalHandle
    constraint: Constraint | None = None
    submitted: float = field(default_factory=time.monotonic)
    sample: Sample | None = None
    """Made by the worker when the job's turn comes near."""

    @property
    def deadline(self) -> float | None:
        seconds = self.request.deadline_s
        return None if seconds is None else self.submitted + seconds

    @property
    def measures_kl(self) -> bool:
        return self.request.measure_kl and self.request.steering is not None

    def completion(self, sample: Sample, thinking_already: bool, kl: SpentKL | None) -> Completion:
        answer, thinking = split_thinking(sample.answer.text, thinking_already=thinking_already)
        return Completion(
            text=answer,
            thinking=thinking,
            token_ids=tuple(sample.token_ids),
            finish_reason=sample.finish or "stop",
            usage=Usage(
                prompt_tokens=len(self.prompt),
                completion_tokens=len(sample.token_ids),
                seconds=sample.ended - sample.started,
                cached_tokens=sample.cached_tokens,
            ),
            receipt=sample.trail.receipt().model_copy(update={"kl": kl}) if self.request.steering else None,
            complete=sample.complete,
        )

    def fail(self, error: BaseException) -> None:
        self.handle.fail(error)

    def end_early(self, now: float) -> bool:
        finish: FinishReason
        if self.handle.cancelled:
            finish = "cancelled"
        elif self.deadline is not None and now >= self.deadline:
            finish = "deadline"
        else:
            return False
        self.handle.succeed(
            Completion(
                text="",
                thinking="",
                token_ids=(),
                finish_reason=finish,
                usage=Usage(prompt_tokens=len(self.prompt), completion_tokens=0, seconds=0.0),
                receipt=NOTHING_DONE if self.request.steering else None,
                complete=None if self.constraint is None else False,
            )
        )
        return True


@dataclass(eq=False)
class ScoreJob:
    request: ScoreRequest
    prompt: list[int]
    continuation: list[int]
    library: Named
    future: "Future[Scores]" = field(default_factory=Future)

    @property
    def width(self) -> int:
        """Tokens that go through the model."""
        return len(self.prompt) + len(self.continuation)

    @property
    def kept(self) -> int:
        """Positions whose logits are kept."""
        return len(self.continuation)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def end_early(self, now: float) -> bool:
        return False


@dataclass(eq=False)
class CallJob:
    """Work of another kind on the model, between two steps of the batch."""

    work: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)
    on_error: Callable[[BaseException], None] = lambda error: None
    """Told of an error too, where nobody waits for the future."""

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)
        self.on_error(error)

    def end_early(self, now: float) -> bool:
        return False

    def run(self) -> None:
        try:
            self.future.set_result(self.work())
        except Exception as error:
            self.fail(error)


class Intake:
    """Turns requests into jobs, in the caller's thread. Every error here is InputError or SteeringError, one line."""

    def __init__(self, loaded: LoadedModel, chat: Chat) -> None:
        self._info = loaded.info
        self._chat = chat
        self._grammars = Grammars(loaded.tokenizer, loaded.eos_ids)
        self.grammars = self._grammars.kinds
        self.vocabulary: int = loaded.model.get_input_embeddings().weight.shape[0]

    def generation(self, request: Request, library: Named, on_cancel: Callable[[], None]) -> GenerationJob:
        prompt = self._prompt(request.messages, request.token_ids, request.enable_thinking)
        self._check(request.steering, library, len(prompt), 1)
        constraint = None
        if request.grammar is not None:
            thinks = self._chat.opens_thinking(prompt)
            constraint = self._grammars.constraint(request.grammar, thinks=thinks, may_think=request.enable_thinking)
        return GenerationJob(request, prompt, library, LocalHandle(on_cancel), constraint)

    def scoring(self, request: ScoreRequest, library: Named) -> ScoreJob:
        if (request.messages is None) == (request.token_ids is None):
            raise InputError("a request to score has either messages or token_ids")
        prompt = self._prompt(request.messages, request.token_ids, False)
        given = request.continuation
        continuation = self._chat.text(given) if isinstance(given, str) else self._in_vocabulary(given)
        if not continuation:
            raise InputError("a continuation to score needs at least one token")
        self._check(request.steering, library, len(prompt), len(continuation))
        return ScoreJob(request, prompt, continuation, library)

    def _prompt(
        self, messages: Sequence[Message] | None, token_ids: Sequence[int] | None, enable_thinking: bool
    ) -> list[int]:
        if messages:
            prompt = self._chat.prompt(messages, enable_thinking=enable_thinking)
        else:
            prompt = self._in_vocabulary(token_ids or ())
        if not prompt:
            raise InputError("a prompt needs at least one token")
        return prompt

    def _in_vocabulary(self, ids: Sequence[int]) -> list[int]:
        wrong = next((token for token in ids if not 0 <= token < self.vocabulary), None)
        if wrong is not None:
            raise InputError(f"token id {wrong}: {self._info.name} has ids 0 to {self.vocabulary - 1}")
        return list(ids)

    def _check(self, steering: Steering | None, library: Named, prompt_tokens: int, more: int) -> None:
        if prompt_tokens + more > self._info.window:
            raise InputError(
                f"the prompt has {prompt_tokens} tokens, which with {more} more does not fit the window of "
                f"{self._info.name} ({self._info.window}); shorten it"
            )
        if steering is not None:
            check_steering(steering, library, self._info)
