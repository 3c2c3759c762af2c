"""Tokens to text as they come: detokenization piece by piece, stop strings, spans without steering, thinking.

Knows strings and token ids. Knows nothing of models or steering.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from steergraph.engine.protocol import Span

OPEN_THINKING, CLOSE_THINKING = "<think>", "</think>"
BROKEN = "\ufffd"
CODE = re.compile(
    r"^[ \t]*(```+|~~~+)[^\n]*\n(?:(?![ \t]*\1)[^\n]*\n)*[ \t]*\1[`~]*[ \t]*$"
    r"|^<{5,} ?SEARCH[^\n]*\n(?:[^\n]*\n)*?>{5,}|`[^`\n]+`",
    re.MULTILINE,
)
"""What an answer says about code and not about itself: fences, edit blocks, spans between backticks. What nothing
closes is none: thoughts break off, and with them what was begun in them; the next fence is then another's."""


def hidden_tokens(tokenizer: Any) -> frozenset[int]:
    """Special tokens that never show in an answer. The marks of thinking do show: the text is split at them."""
    return frozenset(
        index
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and token.content not in (OPEN_THINKING, CLOSE_THINKING)
    )


class Detokenizer:
    """Text of a growing list of tokens. A token that ends inside a character waits for the next one."""

    def __init__(self, tokenizer: Any, skip: frozenset[int] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._skip = skip
        self._ids: list[int] = []
        # Decoding from `_start` to `_read` gives text that was handed out already: it is there so that the tokens
        # after it are decoded in their context (a tokenizer may treat the first one differently).
        self._start = self._read = 0

    def push(self, token: int) -> str:
        """The text that `token` completes, often one word, sometimes nothing."""
        if token in self._skip:
            return ""
        self._ids.append(token)
        return self._new(wait=True)

    def flush(self) -> str:
        """What still waits, an incomplete character as U+FFFD."""
        return self._new(wait=False)

    def _new(self, wait: bool) -> str:
        known, text = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        if len(text) <= len(known) or (wait and text.endswith(BROKEN)):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(known) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


class AnswerText:
    """The visible text of one answer. It ends before the first stop string; what may become one is held back."""

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str], emit: Callable[[str], None]) -> None:
        self._detokenizer = detokenizer
        self._stop = [text for text in stop if text]
        self._emit = emit
        self._emitted = 0
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> None:
        """Take in one token; afterwards `stopped` says whether a stop string is complete."""
        self._grow(self._detokenizer.push(token))

    def finish(self) -> None:
        """No more tokens: everything held back comes out."""
        if not self.stopped:
            self._grow(self._detokenizer.flush())
        self._send(len(self.text))

    def _grow(self, piece: str) -> None:
        if not piece or self.stopped:
            return
        before = len(self.text)
        self.text += piece
        found = [self.text.find(stop, max(0, before - len(stop) + 1)) for stop in self._stop]
        cut = min((place for place in found if place >= 0), default=-1)
        if cut >= 0:
            self.text, self.stopped = self.text[:cut], True
        self._send(len(self.text) - (0 if self.stopped else self._held()))

    def _held(self) -> int:
        """How many characters at the end begin some stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for size in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-size:]) for stop in self._stop):
                return size
        return 0

    def _send(self, end: int) -> None:
        if end > self._emitted:
            self._emit(self.text[self._emitted : end])
            self._emitted = end


class SpanWatch:
    """Whether the answer is inside a span. Special tokens count as text: some models mark calls with them."""

    def __init__(self, detokenizer: Detokenizer, spans: Sequence[Span]) -> None:
        self._detokenizer = detokenizer
        self._spans = spans
        self._text = ""
        self._from = 0
        self._close: str | None = None

    @property
    def inside(self) -> bool:
        return self._close is not None

    def push(self, token: int) -> None:
        """Take in one token. `inside` is true from the token that completes an opening to the one before the token that
        completes its closing: what stands between, and the closing itself, is produced while `inside`."""
        if not self._spans:
            return
        self._text += self._detokenizer.push(token)
        while self._advance():
            pass

    def _advance(self) -> bool:
        if self._close is not None:
            place = self._text.find(self._close, self._from)
            if place >= 0:
                self._from, self._close = place + len(self._close), None
            return place >= 0
        found = [(place, span) for span in self._spans if (place := self._text.find(span.open, self._from)) >= 0]
        if not found:
            return False
        place, span = min(found, key=lambda pair: (pair[0], -len(pair[1].open)))
        self._from, self._close = place + len(span.open), span.close
        return True


def split_thinking(text: str, *, thinking_already: bool | None = False) -> tuple[str, str]:
    """(answer, thinking) of generated text.

    A block counts where the text begins with it, or where the prompt had opened it (`thinking_already`); an unclosed
    one lasts to the end. A mark in the middle of an answer is the answer's own text. Where nobody knows what the prompt
    had opened (None, a server of others), a first `</think>` without an opening, outside code, closes a block that the
    prompt began.
    """
    body = text.lstrip()
    if thinking_already or body.startswith(OPEN_THINKING):
        thinking, _, answer = body.removeprefix(OPEN_THINKING).partition(CLOSE_THINKING)
    elif thinking_already is None and (close := _unopened_close(body)) is not None:
        thinking, answer = body[:close], body[close + len(CLOSE_THINKING) :]
    else:
        return text, ""
    return answer.lstrip("\n"), thinking.strip()


def _unopened_close(body: str) -> int | None:
    """Where the first `</think>` outside code stands, if no `<think>` stands before it."""
    prose = CODE.sub(lambda found: " " * len(found[0]), body)
    opened, closed = prose.find(OPEN_THINKING), prose.find(CLOSE_THINKING)
    return None if closed < 0 or 0 <= opened < closed else closed
