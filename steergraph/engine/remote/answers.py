"""A completion as it grows out of a server's pieces.

Knows what they mean. Knows nothing of connections.
"""

import time
from collections.abc import Callable

from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING, split_thinking
from steergraph.engine.protocol import Completion, FinishReason, Usage
from steergraph.engine.remote.address import RemoteError
from steergraph.engine.steering.records import Receipt
from steergraph.engine.wire.replies import Delta, Reply, SteeringReport, TokenUsage


class Answer:
    """One generation over all its attempts. What was handed out stays: another attempt has to say the same again."""

    def __init__(self, feed: Callable[[str], None]) -> None:
        self._feed = feed
        self._handed_out = ""
        self.restart()

    def restart(self) -> None:
        """Begin another attempt."""
        self.text = ""
        self.token_ids: tuple[int, ...] = ()
        self.finish: FinishReason | None = None
        self.usage: TokenUsage | None = None
        self.report: SteeringReport | None = None
        self.started = time.monotonic()
        self._pieces = 0
        self._reasoning = self._took_out = False

    @property
    def receipt(self) -> Receipt | None:
        """What the server says it did."""
        return self.report.receipt if self.report else None

    def take(self, reply: Reply) -> None:
        """Raises RemoteError where this attempt says other words than the last one."""
        before = len(self.text)
        self.usage = reply.usage or self.usage
        self.report = reply.steergraph or self.report
        for choice in (choice for choice in reply.choices if not choice.index):
            delta = choice.delta or choice.message or Delta()
            self._add(delta.reasoning_content or delta.reasoning or "", reasoning=True)
            self._add(delta.content or choice.text or "", reasoning=False)
            self.token_ids += choice.token_ids or ()
            if choice.finish_reason is not None:
                self.finish = "length" if choice.finish_reason == "length" else "stop"
        self._pieces += len(self.text) > before
        self._hand_out()

    def _add(self, text: str, *, reasoning: bool) -> None:
        """Reasoning that a server took out of the text goes back to where it was."""
        if text:
            self._took_out |= reasoning
            if reasoning != self._reasoning:
                self.text += OPEN_THINKING if reasoning else CLOSE_THINKING
            self.text += text
            self._reasoning = reasoning

    def _hand_out(self) -> None:
        if self.text.startswith(self._handed_out):
            if new := self.text[len(self._handed_out) :]:
                self._feed(new)
            self._handed_out = self.text
        elif not self._handed_out.startswith(self.text):
            raise RemoteError("the answer was cut off, and asked again the server gave another one; ask with a seed")

    def completion(
        self, finish: FinishReason, prompt_tokens: int, receipt: Callable[[Usage], Receipt | None]
    ) -> Completion:
        """What there is, as a completion. `prompt_tokens` stands in where the server did not say."""
        # Where an attempt after a cut got less far than the one before, that one's text is the answer.
        text = max(self.text, self._handed_out, key=len)
        # A server that takes reasoning out of the text has opened nothing more; others may leave what a template began.
        opened = self.report.opens_thinking if self.report else False if self._took_out else None
        answer, thinking = split_thinking(text, thinking_already=opened)
        counted = self.usage or TokenUsage(completion_tokens=len(self.token_ids) or self._pieces)
        details = counted.prompt_tokens_details
        usage = Usage(
            prompt_tokens=counted.prompt_tokens or prompt_tokens,
            completion_tokens=counted.completion_tokens,
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
            complete=self.report.complete if self.report else None,
        )
