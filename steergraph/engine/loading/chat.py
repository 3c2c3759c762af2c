"""Messages to token ids: the chat template, or plain text for a model that has none.

Knows templates and added tokens. Knows nothing of prompts' meaning. What messages contain is data: the name of a token
that is a mark is encoded as ordinary text, so that no issue or file can end its own turn, begin to think or call a
tool. A system text that the template would drop goes into the user's turn.
"""

import threading
from collections.abc import Sequence
from typing import Any

from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING
from steergraph.engine.loading.template import marks, placed, probe, render
from steergraph.engine.protocol import Message

# Stands for a cut between two separately encoded stretches: noncharacters, which no text and no template contains.
CUT = "\ufdd0\ufdd1\ufdd0"


class Chat:
    """Encodes for one tokenizer. Safe to use from several threads."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._marks, self._special = marks(tokenizer), marks(tokenizer, special_alone=True)
        self._has_template = bool(getattr(tokenizer, "chat_template", None))
        self._template = probe(tokenizer)
        self._bos = [] if self._has_template else _leading_bos(tokenizer)

    def prompt(self, messages: Sequence[Message], *, enable_thinking: bool = False) -> list[int]:
        """Token ids of `messages` with the generation prompt; the template alone decides about a begin token.

        A tokenizer without a template gets the messages' texts with a blank line between and after them, behind its own
        begin token. Raises InputError where the template refuses the messages.
        """
        safe = [{"role": message.role, "content": self._defuse(message.content, message.role)} for message in messages]
        if self._has_template:
            there = placed(safe, self._template)
            return self._encode(render(self._tokenizer, there, enable_thinking=enable_thinking))
        return self._bos + self._encode("".join(f"{message['content'].strip()}\n\n" for message in safe))

    def text(self, text: str) -> list[int]:
        """Token ids of plain text: no template, no begin token, marks' names as text."""
        return self._encode(self._defuse(text))

    def opens_thinking(self, ids: Sequence[int]) -> bool:
        """Whether a prompt ends inside an open block of thinking, so that the answer begins there."""
        tail = self._tokenizer.decode(list(ids[-8:]), skip_special_tokens=False)
        return bool(tail.rstrip().endswith(OPEN_THINKING)) and tail.rfind(OPEN_THINKING) > tail.rfind(CLOSE_THINKING)

    def _defuse(self, text: str, role: str = "user") -> str:
        """`text` with every mark's name cut in two; in an answer of the model's own only special tokens' names, since
        templates look for the marks of its thinking there."""
        text, pattern = text.replace(CUT, ""), self._special if role == "assistant" else self._marks
        return pattern.sub(lambda found: found[0][0] + CUT + found[0][1:], text) if pattern else text

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
