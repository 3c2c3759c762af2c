"""Errors as bodies of answers: written in OpenAI's shape, read in every usual one."""

import json
from typing import Any

from steergraph.base.errors import one_line

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
"""OpenAI's name for what is wrong, by status; else it is the server's fault."""


def error_body(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": KINDS.get(status, "server_error"), "param": None, "code": status}}


def error_text(body: str) -> str:
    """What an error's body says: OpenAI's `error.message`, FastAPI's `detail`, or the beginning of the text."""
    try:
        message = error_message(json.loads(body))
    except (ValueError, RecursionError):
        message = None
    return message or one_line(body, 200) or "no reason given"


def error_message(content: object) -> str | None:
    """The message of an object in one of the usual error shapes, or None."""
    if not isinstance(content, dict):
        return None
    for key in ("error", "message", "detail"):
        value = content.get(key)
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value.strip():
            return one_line(value)
    return None
