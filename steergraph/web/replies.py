"""Completions and errors in OpenAI's shapes. Knows JSON; not HTTP, not engines."""

import json
import secrets
import time
from typing import Any

from steergraph.engine.protocol import Completion, Scores, Usage

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


def error_body(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": ERRORS.get(status, "server_error"), "param": None, "code": status}}


def event(content: object) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class Reply:
    """One answer: all its bodies carry the same id and time."""

    def __init__(self, model: str, *, chat: bool, token_ids: bool, opens_thinking: bool) -> None:
        self._chat, self._token_ids, self._opens_thinking = chat, token_ids, opens_thinking
        kind = "chat.completion" if chat else "text_completion"
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
        self._head: dict[str, Any] = {"id": self._id, "object": kind, "created": int(time.time()), "model": model}

    def first(self) -> list[dict[str, Any]]:
        """What a stream begins with: a chat's says who speaks."""
        return [self._piece({"role": "assistant", "content": ""})] if self._chat else []

    def piece(self, text: str) -> dict[str, Any]:
        return self._piece({"content": text} if self._chat else text)

    def last(self, completion: Completion) -> dict[str, Any]:
        """The end of a stream: why it ended, the tokens if they were asked for, the receipt."""
        chunk = self._piece({} if self._chat else "", finish=completion.finish_reason)
        if self._token_ids:
            chunk["choices"][0]["token_ids"] = list(completion.token_ids)
        return chunk | {"steergraph": self._told(completion)}

    def usage(self, completion: Completion) -> dict[str, Any]:
        return {**self._head, **self._kind(), "choices": [], "usage": usage_of(completion.usage)}

    def whole(self, completion: Completion, logprobs: list[Any] | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": _finish(completion.finish_reason), "logprobs": None}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": completion.text}
            if completion.thinking:
                choice["message"]["reasoning_content"] = completion.thinking
        else:
            choice["text"] = completion.text
            choice["prompt_logprobs"] = logprobs
        if self._token_ids:
            choice["token_ids"] = list(completion.token_ids)
        told = self._told(completion) | {"opens_thinking": False}  # thinking has been taken out already
        return {**self._head, "choices": [choice], "usage": usage_of(completion.usage), "steergraph": told}

    def scored(self, prompt: list[int], scores: Scores | None) -> list[Any]:
        """vLLM's `prompt_logprobs`: none for the first token, then each token's own."""
        found = scores.logprobs if scores else ()
        return [None, *({str(token): {"logprob": one}} for token, one in zip(prompt[1:], found, strict=True))]

    def _piece(self, delta: Any, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": _finish(finish), ("delta" if self._chat else "text"): delta}
        return {**self._head, **self._kind(), "choices": [choice]}

    def _kind(self) -> dict[str, str]:
        return {"object": "chat.completion.chunk"} if self._chat else {}

    def _told(self, completion: Completion) -> dict[str, Any]:
        receipt = completion.receipt
        return {
            "receipt": receipt.model_dump(mode="json") if receipt is not None else None,
            "opens_thinking": self._opens_thinking,
        }


def _finish(reason: str | None) -> str | None:
    return reason if reason in (None, "length") else "stop"
