"""LangChain's messages as an engine's: roles, texts, and what was called and answered before.

Knows both kinds of message. Knows nothing of engines.
"""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, SystemMessage, ToolMessage

from steergraph.base.errors import InputError
from steergraph.chat.tools import Tools
from steergraph.engine.protocol import Message, Role
from steergraph.engine.wire.tool_calls import tool_response

NO_TOOLS = Tools(())
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "ai": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_PASSED_OVER = {"tool_use", "tool_call", "input_json_delta", "reasoning", "thinking", "redacted_thinking"}
"""Content blocks that say nothing to a model: a call stands in `tool_calls` too, and thinking is not said again."""


def convert(messages: Sequence[BaseMessage], tools: Tools | None, instruction: str = "") -> tuple[Message, ...]:
    """The messages of a request; `instruction` goes to the end of the system message, which there then is.

    Messages of one role after another are joined by a blank line, since most chat templates insist on turns. Raises
    InputError for what is no text.
    """
    texts: list[tuple[Role, str]] = [(_role(message), _text_of(message, tools or NO_TOOLS)) for message in messages]
    if not texts:
        raise InputError("there is no message to answer")
    if instruction:
        at_front = isinstance(messages[0], SystemMessage)
        texts.insert(1 if at_front else 0, ("system", instruction))
    joined: list[tuple[Role, list[str]]] = []
    for role, text in texts:
        if joined and joined[-1][0] == role:
            joined[-1][1].append(text)
        else:
            joined.append((role, [text]))
    return tuple(Message(role=role, content="\n\n".join(parts)) for role, parts in joined)


def _role(message: BaseMessage) -> Role:
    if isinstance(message, ToolMessage) or message.type == "function":
        return "user"
    kind = message.role if isinstance(message, ChatMessage) else message.type
    kind = kind.removesuffix("MessageChunk").lower()
    if kind not in _ROLES:
        raise InputError(f"a message of role {kind!r}: known are system, user, assistant and tool")
    return _ROLES[kind]


def _text_of(message: BaseMessage, tools: Tools) -> str:
    text = content_text(message.content)
    if isinstance(message, ToolMessage) or message.type == "function":
        failed = getattr(message, "status", "success") == "error" and not text.startswith("Error")
        return tool_response(f"{'Error: ' if failed else ''}{text}")
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = tools.write([{"name": call["name"], "args": call["args"]} for call in message.tool_calls])
        return f"{text}\n{calls}" if text else calls
    return text


def content_text(content: str | list[Any]) -> str:
    """The text in a message's content. Raises InputError for images, audio and files."""
    if isinstance(content, str):
        return content
    texts = []
    for block in content:
        kind = "text" if isinstance(block, str) else block.get("type")
        if kind in ("text", "text-plain") or (kind == "tool_result" and isinstance(block.get("content"), str)):
            texts.append(block if isinstance(block, str) else block.get("text") or block.get("content") or "")
        elif kind not in _PASSED_OVER:
            raise InputError(f"a message holds {kind!r}; this model reads text alone")
    return "\n".join(texts)
