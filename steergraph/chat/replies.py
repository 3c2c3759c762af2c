"""Completions as LangChain's messages, whole or as the end of a stream.

Knows both. Knows nothing of requests.
"""

import json
import uuid
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from steergraph.chat.request import Asked, Growing
from steergraph.chat.tools import Said, take_apart
from steergraph.engine.protocol import Completion


def result(completion: Completion, asked: Asked, model: str) -> ChatResult:
    """A whole answer. `model` is the engine's own name for it."""
    said = _said(completion, asked)
    message = AIMessage(
        content=said.content,
        tool_calls=[tool_call(name=name, args=args, id=_new_id()) for name, args in said.calls],
        invalid_tool_calls=[
            invalid_tool_call(name=None, args=text, id=_new_id(), error=why) for text, why in said.broken
        ],
        **_about(completion, asked, model),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def piece_of(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def last(completion: Completion, asked: Asked, growing: Growing, model: str) -> ChatGenerationChunk:
    """The end of a stream: what was held back, the calls, and everything that is known only now."""
    said = _said(completion, asked)
    written = [(name, json.dumps(args, ensure_ascii=False)) for name, args in said.calls]
    broken = [(None, text) for text, _ in said.broken]
    message = AIMessageChunk(
        content=growing.rest(said.content),
        tool_call_chunks=[
            tool_call_chunk(name=name, args=args, id=_new_id(), index=index)
            for index, (name, args) in enumerate([*written, *broken])
        ],
        chunk_position="last",
        **_about(completion, asked, model),
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": completion.finish_reason})


def _said(completion: Completion, asked: Asked) -> Said:
    return take_apart(completion.text, asked.tools) if asked.tools is not None else Said(completion.text)


def _about(completion: Completion, asked: Asked, model: str) -> dict[str, Any]:
    usage, receipt = completion.usage, completion.receipt
    return {
        "additional_kwargs": {"reasoning_content": completion.thinking} if completion.thinking else {},
        "response_metadata": {
            "model_name": model,
            "finish_reason": completion.finish_reason,
            "seed": asked.seed,
            "steering": receipt.model_dump(mode="json") if receipt is not None else None,
        },
        "usage_metadata": {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
