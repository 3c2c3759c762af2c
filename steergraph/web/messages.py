"""OpenAI's messages as an engine's: roles, texts, and what was called and answered before.

Knows both kinds of message. What the engine has no role for, a call and its answer, becomes text as the model's own
template writes it.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from steergraph.base.errors import InputError
from steergraph.base.records import Frozen, Loose
from steergraph.base.text import is_text
from steergraph.engine.protocol import Message
from steergraph.engine.wire.tool_calls import Format, tool_response, write_call


class TextPart(Frozen):
    type: Literal["text"]
    text: str


class CalledFunction(Loose):
    name: str = Field(min_length=1)
    arguments: str | dict[str, Any] = ""


class ToolCall(Loose):
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Loose):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[TextPart, ...] | None = None
    """None beside tool calls, and of an empty answer."""
    tool_calls: tuple[ToolCall, ...] | None = None
    function_call: None = None
    audio: None = None


def engine_messages(messages: Sequence[ChatMessage], format: Format) -> tuple[Message, ...]:
    """The messages as an engine takes them; a tool's answers join those beside them and the user's next words, since
    most templates insist on turns. Raises InputError."""
    made: list[Message] = []
    after_tool = False
    for number, message in enumerate(messages):
        where, tool = f"messages.{number}", message.role == "tool"
        text = _text(message, where)
        if tool:
            text = tool_response(text)
        if message.tool_calls:
            calls = "\n".join(_call(call, format, where) for call in message.tool_calls)
            text = f"{text}\n{calls}" if text else calls
        role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
        if made and made[-1].role == role == "user" and (tool or after_tool):
            text = f"{made.pop().content}\n\n{text}"
        made.append(Message.model_validate({"role": role, "content": text}))
        after_tool = tool
    return tuple(made)


def need_characters(value: Any, where: str) -> None:
    """Raise InputError, which begins with `where`, where a text of `value`, made from JSON, is none."""
    if not is_text(json.dumps(value, ensure_ascii=False)):
        raise InputError(f"{where} half of a surrogate pair, which is no character")


def _text(message: ChatMessage, where: str) -> str:
    if message.tool_calls and message.role != "assistant":
        raise InputError(f"{where}.tool_calls: only of the assistant's")
    if message.content is None:
        if message.role not in ("assistant", "tool"):
            raise InputError(f"{where}.content: null of the {message.role}")
        return ""
    return message.content if isinstance(message.content, str) else "".join(part.text for part in message.content)


def _call(call: ToolCall, format: Format, where: str) -> str:
    arguments = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}.tool_calls: the arguments are not JSON") from error
    if not isinstance(arguments, dict):
        raise InputError(f"{where}.tool_calls: the arguments are not an object")
    need_characters(arguments, f"{where}.tool_calls: the arguments hold")
    return write_call(call.function.name, arguments, format)
