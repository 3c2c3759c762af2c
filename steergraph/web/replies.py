"""Completions in OpenAI's shapes. Knows the bodies of answers; not HTTP, not engines."""

import secrets
import time
from collections.abc import Sequence
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

    def whole(self, completions: Sequence[Completion]) -> Reply:
        """One choice for each prompt."""
        return self._whole([(completion, self._content(completion)) for completion in completions])

    def scored(self, nothing: Sequence[Completion], prompts: Sequence[list[int]], scores: Sequence[Scores]) -> Reply:
        """vLLM's `prompt_logprobs`: none for the first token, then each token's own."""
        parts = []
        for completion, prompt, one in zip(nothing, prompts, scores, strict=True):
            logprobs = zip(prompt[1:], one.logprobs, strict=True)
            own = [{token: TokenLogprob(logprob=logprob)} for token, logprob in logprobs]
            parts.append((completion, {"text": "", "prompt_logprobs": (None, *own)}))
        return self._whole(parts)

    def _content(self, completion: Completion) -> dict[str, Any]:
        if not self._chat:
            return {"text": completion.text, "prompt_logprobs": None}
        thinking = {"reasoning_content": completion.thinking} if completion.thinking else {}
        return {"message": Delta(role="assistant", content=completion.text, **thinking)}

    def _whole(self, parts: Sequence[tuple[Completion, dict[str, Any]]]) -> Reply:
        # Thinking has been taken out of the text already.
        reports = [_report(completion, opens_thinking=False) for completion, _ in parts]
        if len(parts) > 1:
            parts = [(one, {**said, "steergraph": report}) for (one, said), report in zip(parts, reports, strict=True)]
        choices = [self._choice(one, at=at, logprobs=None, **said) for at, (one, said) in enumerate(parts)]
        own = {"steergraph": reports[0]} if len(parts) == 1 else {}
        usage = [TokenUsage.of(completion.usage) for completion, _ in parts]
        return Reply(**self._head, choices=tuple(choices), usage=TokenUsage.sum(usage), **own)

    def _piece(self, completion: Completion | None = None, **content: Any) -> Reply:
        return Reply(**self._piece_head, choices=(self._choice(completion, **content),))

    def _choice(self, completion: Completion | None, at: int = 0, **content: Any) -> Choice:
        """`completion` where it ends here; `at`: of which prompt it is."""
        if completion is not None and self._token_ids:
            content["token_ids"] = completion.token_ids
        return Choice(index=at, finish_reason=_finish(completion), **content)


def _report(completion: Completion, opens_thinking: bool) -> SteeringReport:
    held = {} if completion.complete is None else {"complete": completion.complete}
    return SteeringReport(receipt=completion.receipt, opens_thinking=opens_thinking, **held)


def _finish(completion: Completion | None) -> str | None:
    if completion is None:
        return None
    return "length" if completion.finish_reason == "length" else "stop"
