"""Completions in OpenAI's shapes. Knows the bodies of answers; not HTTP, not engines."""

import secrets
import time
from typing import Any

from steergraph.engine.protocol import Completion, Scores
from steergraph.engine.wire.replies import Choice, Delta, Reply, SteeringReport, TokenLogprob, TokenUsage


class Replies:
    """The bodies of one answer: all carry the same id and time."""

    def __init__(self, model: str, *, chat: bool, token_ids: bool, opens_thinking: bool) -> None:
        self._chat, self._token_ids, self._opens_thinking = chat, token_ids, opens_thinking
        self._head: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._piece_head = self._head | ({"object": "chat.completion.chunk"} if chat else {})

    def first(self) -> list[Reply]:
        """What a stream begins with: a chat's says who speaks."""
        return [self._piece(delta=Delta(role="assistant", content=""))] if self._chat else []

    def piece(self, text: str) -> Reply:
        return self._piece(delta=Delta(content=text)) if self._chat else self._piece(text=text)

    def last(self, completion: Completion) -> Reply:
        """The end of a stream: why it ended, the tokens if they were asked for, the receipt."""
        end: dict[str, Any] = {"delta": Delta()} if self._chat else {"text": ""}
        report = _report(completion, self._opens_thinking)
        return self._piece(completion, **end).model_copy(update={"steergraph": report})

    def usage(self, completion: Completion) -> Reply:
        return Reply(**self._piece_head, choices=(), usage=TokenUsage.of(completion.usage))

    def whole(self, completion: Completion) -> Reply:
        if self._chat:
            thinking = {"reasoning_content": completion.thinking} if completion.thinking else {}
            content: dict[str, Any] = {"message": Delta(role="assistant", content=completion.text, **thinking)}
        else:
            content = {"text": completion.text, "prompt_logprobs": None}
        return self._whole(completion, **content)

    def scored(self, nothing: Completion, prompt: list[int], scores: Scores | None) -> Reply:
        """vLLM's `prompt_logprobs`: none for the first token, then each token's own."""
        logprobs = scores.logprobs if scores else ()
        own = [{token: TokenLogprob(logprob=one)} for token, one in zip(prompt[1:], logprobs, strict=True)]
        return self._whole(nothing, text="", prompt_logprobs=(None, *own))

    def _whole(self, completion: Completion, **content: Any) -> Reply:
        return Reply(
            **self._head,
            choices=(self._choice(completion, logprobs=None, **content),),
            usage=TokenUsage.of(completion.usage),
            # Thinking has been taken out of the text already.
            steergraph=_report(completion, opens_thinking=False),
        )

    def _piece(self, completion: Completion | None = None, **content: Any) -> Reply:
        return Reply(**self._piece_head, choices=(self._choice(completion, **content),))

    def _choice(self, completion: Completion | None, **content: Any) -> Choice:
        """`completion` where it ends here."""
        if completion is not None and self._token_ids:
            content["token_ids"] = completion.token_ids
        return Choice(index=0, finish_reason=_finish(completion), **content)


def _report(completion: Completion, opens_thinking: bool) -> SteeringReport:
    held = {} if completion.complete is None else {"complete": completion.complete}
    return SteeringReport(receipt=completion.receipt, opens_thinking=opens_thinking, **held)


def _finish(completion: Completion | None) -> str | None:
    if completion is None:
        return None
    return "length" if completion.finish_reason == "length" else "stop"
