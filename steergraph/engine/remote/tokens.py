"""How many tokens a prompt has, as exactly as can be had: by a local tokenizer, by the server, or estimated.

Knows how to count and to encode. Knows nothing of generation.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steergraph.base.bounded import BoundedCache
from steergraph.base.errors import InputError, one_line
from steergraph.engine.protocol import Message
from steergraph.engine.remote.address import Address, RemoteError
from steergraph.engine.remote.client import Client, shaped
from steergraph.engine.remote.server import Server
from steergraph.engine.wire.replies import Tokenized

LETTERS_PER_TOKEN = 2.0
TOKENS_PER_MESSAGE = 8
MOST_COUNTS = 4096


def estimate(messages: Sequence[Message]) -> int:
    """Tokens of a prompt by its letters: one for every two of ASCII, one for every byte of others, eight a message for
    the template, and eight more.

    Meant to be too many rather than too few: with today's tokenizers English and code have 3 to 5 letters a token, and
    no byte-level tokenizer has more tokens than bytes. ASCII that is all rare marks can still have more than this.
    """
    plain = other = 0
    for message in messages:
        size = len(message.content.encode("utf-8", errors="replace"))
        ascii_letters = sum(map(str.isascii, message.content))
        plain, other = plain + ascii_letters, other + size - ascii_letters
    return math.ceil(plain / LETTERS_PER_TOKEN) + other + TOKENS_PER_MESSAGE * (len(messages) + 1)


def local_chat(folder: str) -> Any:
    """The chat encoder of a local folder's tokenizer. Raises InputError where it has none."""
    from transformers import AutoTokenizer

    from steergraph.engine.loading.chat import Chat

    if not Path(folder).is_dir():
        raise InputError(f"tokenizer={folder}: no such folder")
    try:
        return Chat(AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True))
    except Exception as error:  # a broken file surfaces as whatever its parser raises
        raise InputError(f"tokenizer={folder}: can't be loaded ({one_line(str(error), 160)})") from error


class Tokens:
    """Counts for one server. Safe to use from several threads."""

    def __init__(self, client: Client, address: Address, server: Server) -> None:
        self._client, self._server = client, server
        self._url = f"{address.root}/tokenize"
        self._chat = local_chat(address.tokenizer) if address.tokenizer else None
        self._asks = server.extends
        self._counts: BoundedCache[tuple[Message, ...], int] = BoundedCache(MOST_COUNTS)

    def without_asking(self, messages: Sequence[Message]) -> int | None:
        """The count where it is known here, or nobody can be asked for it; else None."""
        if self._chat is not None:
            return len(self._chat.prompt(messages))
        key = tuple(messages)
        if (count := self._counts.get_many([key]).get(key)) is not None:
            return count
        return None if self._asks else estimate(messages)

    async def count(self, messages: Sequence[Message]) -> int:
        """The count, from the server if need be. Raises RemoteError where it fails; a server that turns out to have no
        /tokenize is not asked again, and its counts are estimated."""
        if (count := self.without_asking(messages)) is not None:
            return count
        try:
            count = (await self._tokenize(_chat_body(messages))).count
        except RemoteError as error:
            if error.status not in (404, 405, 501):
                raise
            self._asks = False
            return estimate(messages)
        self._counts.put(tuple(messages), count, 1)
        return count

    async def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a chat prompt. Raises RemoteError."""
        if self._chat is not None:
            return list(self._chat.prompt(messages))
        return list((await self._tokenize(_chat_body(messages))).tokens)

    async def text_ids(self, text: str) -> list[int]:
        """The token ids of a text without any template. Raises RemoteError."""
        if self._chat is not None:
            return list(self._chat.text(text))
        return list((await self._tokenize({"prompt": text, "add_special_tokens": False})).tokens)

    async def _tokenize(self, body: dict[str, Any]) -> Tokenized:
        content = await self._client.json(self._url, {"model": self._server.model, **body})
        return shaped(Tokenized, content, self._url)


def _chat_body(messages: Sequence[Message]) -> dict[str, Any]:
    return {
        "messages": [message.model_dump() for message in messages],
        "add_generation_prompt": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }
