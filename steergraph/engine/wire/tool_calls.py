"""Tool calls in words: the ways models write them, and what a tool answered, as texts of a conversation.

Knows notations. Knows neither LangChain's messages nor a server's.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

Format = Literal["hermes", "json", "python"]
NEVER = "\ufdd0"
"""A noncharacter, which no text has: a span that closes with it lasts to the end."""
TAGS = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "python": ("<|tool_call_start|>", "<|tool_call_end|>"),
    "mistral": ("[TOOL_CALLS]", NEVER),
    "llama": ("<|python_tag|>", "<|eom_id|>"),
}


def format_of(chat_template: object) -> Format:
    """The way of writing calls that a model's own chat template shows."""
    template = chat_template if isinstance(chat_template, str) else json.dumps(chat_template or "")
    if "<|tool_call_start|>" in template or "<|tool_list_start|>" in template:
        return "python"
    if "<|python_tag|>" in template and "<tool_call>" not in template:
        return "json"
    return "hermes"


def tags(format: Format) -> tuple[str, str]:
    """What stands around a call; nothing around a bare JSON object."""
    return TAGS.get(format, ("", ""))


def arguments_key(format: Format) -> str:
    """What a call's arguments are called in JSON."""
    return "parameters" if format == "json" else "arguments"


def write_call(name: str, arguments: Mapping[str, Any], format: Format) -> str:
    opened, closed = tags(format)
    if format == "python":
        words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        return f"{opened}[{name}({words})]{closed}"
    body = json.dumps({"name": name, arguments_key(format): dict(arguments)}, ensure_ascii=False)
    return body if format == "json" else f"{opened}\n{body}\n{closed}"


def tool_response(text: str) -> str:
    """What a tool answered, as the user's text: a role of its own is known to few templates."""
    return f"<tool_response>\n{text}\n</tool_response>"
