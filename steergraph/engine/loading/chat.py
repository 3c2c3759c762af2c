"""Messages to token ids: the chat template, or plain text for a model that has none.

Knows templates and special tokens. Knows nothing of prompts' meaning. What messages contain is data: a special token's
name inside a message is encoded as ordinary text, so that no issue or file can end its own turn.
"""

import re
import threading
from collections.abc import Sequence
from typing import Any

from steergraph.base.errors import InputError
from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING
from steergraph.engine.protocol import Message

# Stands for a cut between two separately encoded stretches: noncharacters, which no text and no template contains.
CUT = "\ufdd0\ufdd1\ufdd0"


class Chat:
    """Encodes for one tokenizer. Safe to use from several threads."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        names = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names))) if names else None
        self._has_template = bool(getattr(tokenizer, "chat_template", None))
        self._bos = [] if self._has_template else _leading_bos(tokenizer)

    def prompt(self, messages: Sequence[Message], *, enable_thinking: bool = False) -> list[int]:
        """Token ids of `messages` with the generation prompt; the template alone decides about a begin token.

        A tokenizer without a template gets the messages' texts with a blank line between and after them, behind its own
        begin token. Raises InputError where the template refuses the messages.
        """
        safe = [{"role": message.role, "content": self._defuse(message.content)} for message in messages]
        if self._has_template:
            return self._encode(self._render(safe, enable_thinking))
        return self._bos + self._encode("".join(f"{message['content'].strip()}\n\n" for message in safe))

    def text(self, text: str) -> list[int]:
        """Token ids of plain text: no template, no begin token, special tokens' names as text."""
        return self._encode(self._defuse(text))

    def opens_thinking(self, ids: Sequence[int]) -> bool:
        """Whether a prompt ends inside an open block of thinking, so that the answer begins there."""
        tail = self._tokenizer.decode(list(ids[-8:]), skip_special_tokens=False)
        return bool(tail.rstrip().endswith(OPEN_THINKING)) and tail.rfind(OPEN_THINKING) > tail.rfind(CLOSE_THINKING)

    def _defuse(self, text: str) -> str:
        """`text` with every special token's name cut in two."""
        text = text.replace(CUT, "")
        return self._special.sub(lambda found: found[0][0] + CUT + found[0][1:], text) if self._special else text

    def _render(self, messages: list[dict[str, str]], enable_thinking: bool) -> str:
        from jinja2 import TemplateError

        attempts = [messages]
        if len(messages) > 1 and messages[0]["role"] == "system" and messages[1]["role"] == "user":
            # Some templates know no system role; it then opens the first user message.
            joined = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            attempts.append([{"role": "user", "content": joined}, *messages[2:]])
        for attempt in attempts:
            try:
                rendered: str = self._tokenizer.apply_chat_template(
                    attempt, tokenize=False, add_generation_prompt=True, enable_thinking=enable_thinking
                )
            except TemplateError as error:
                refusal = error
            else:
                return rendered
        raise InputError(f"the model's chat template refuses these messages: {refusal}") from refusal

    def _encode(self, text: str) -> list[int]:
        with self._lock:
            pieces = [
                self._tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in text.split(CUT) if piece
            ]
        return [token for piece in pieces for token in piece]


def _leading_bos(tokenizer: Any) -> list[int]:
    """The begin token, where the tokenizer puts one before plain text."""
    bos, ids = tokenizer.bos_token_id, tokenizer("a")["input_ids"]
    return [bos] if bos is not None and ids[:1] == [bos] else []
