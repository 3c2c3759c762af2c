"""Completions as LangChain's messages, whole or as the end of a stream.

Knows both. Knows nothing of requests.
"""

import json
import uuid
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from steergraph.chat.request import CallOptions, VisibleText
from steergraph.chat.tools import ParsedAnswer, parse_answer
from steergraph.engine.protocol import Completion


def result(completion: Completion, options: CallOptions, model: str) -> ChatResult:
    """A whole answer. `model` is the engine's own name for it."""
    answer = _parsed(completion, options)
    message = AIMessage(
        content=answer.content,
        tool_calls=[tool_call(name=name, args=args, id=_new_id()) for name, args in answer.calls],
        invalid_tool_calls=[
            invalid_tool_call(name=None, args=text, id=_new_id(), error=why) for text, why in answer.broken
        ],
        **_about(completion, options, model),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def piece_of(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def last(completion: Completion, options: CallOptions, visible: VisibleText, model: str) -> ChatGenerationChunk:
    """The end of a stream: what was held back, the calls, and everything that is known only now."""
    answer = _parsed(completion, options)
    written = [(name, json.dumps(args, ensure_ascii=False)) for name, args in answer.calls]
    broken = [(None, text) for text, _ in answer.broken]
    message = AIMessageChunk(
        content=visible.rest(answer.content),
        tool_call_chunks=[
            tool_call_chunk(name=name, args=args, id=_new_id(), index=index)
            for index, (name, args) in enumerate([*written, *broken])
        ],
        chunk_position="last",
        **_about(completion, options, model),
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": completion.finish_reason})


def _parsed(completion: Completion, options: CallOptions) -> ParsedAnswer:
    if options.tools is None:
        return ParsedAnswer(completion.text)
    return parse_answer(completion.text, options.tools, cut=completion.finish_reason != "stop")


def _about(completion: Completion, options: CallOptions, model: str) -> dict[str, Any]:
    usage, receipt = completion.usage, completion.receipt
    return {
        "additional_kwargs": {"reasoning_content": completion.thinking} if completion.thinking else {},
        "response_metadata": {
            "model_name": model,
            "finish_reason": completion.finish_reason,
            "seed": options.seed,
            "complete": completion.complete,
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
