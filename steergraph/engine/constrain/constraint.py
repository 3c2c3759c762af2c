"""One answer held to its grammar: which tokens may come next, and when it is complete.

Knows masks and ends. Knows nothing of sampling, batches or models.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from llguidance import LLMatcher

from steergraph.base.errors import InputError, one_line


class Constraint:
    """The state of one answer, from its first token on.

    `marks` are what free text comes before, in order; the grammar holds behind the last. Each is forced where the model
    would end its turn before it, or has only `reserve` tokens left; the last one not where it is `optional`.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        encode: Callable[[str], list[int]],
        text_of: Callable[[int], str],
        *,
        marks: Sequence[str] = (),
        reserve: int = 0,
        optional: bool = False,
        opener: int | None = None,
        closer: str = "",
    ) -> None:
        """`opener` is a token that an answer may begin with; free text then follows up to `closer`. `encode` gives
        tokens of a text, `text_of` the text that a further token adds."""
        self._matcher, self._encode, self._text_of = matcher, encode, text_of
        self._marks, self._reserve, self._optional = list(marks), reserve, optional
        self._opener, self._closer = opener, closer
        self._text = ""
        self._forced: list[int] = []

    @property
    def _free(self) -> bool:
        return bool(self._marks) and not self._forced

    @property
    def _may_end(self) -> bool:
        """Whether the free text may be all."""
        return self._optional and len(self._marks) == 1 and not self._forced

    @property
    def complete(self) -> bool:
        """Whether the answer so far is whole by its grammar."""
        return self._may_end or (not self._marks and not self._forced and self._matcher.is_accepting())

    @property
    def over(self) -> bool:
        """Whether nothing may follow."""
        return not self._marks and not self._forced and self._matcher.is_stopped()

    def masked(self, logits: torch.Tensor, room: int) -> torch.Tensor:
        """`logits` [vocabulary] with -inf for what may not come next; themselves where everything may. `room` tokens
        are left. Raises InputError where the grammar can't be carried on."""
        if self._free and room <= self._reserve and not self._may_end:
            self._force()
        if self._free:
            return logits
        allowed = torch.zeros(len(logits), dtype=torch.bool)
        if self._forced:
            allowed[self._forced[0]] = True
        else:
            bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
            known = torch.from_numpy(bits[: len(logits)]).bool()
            allowed[: len(known)] = known
            self._check()
            if self._opener is not None:
                allowed[self._opener] = True
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def held_back(self) -> bool:
        """The model ends its turn: whether it may not yet, because what has to come has not. It is then forced."""
        if self._free and not self._may_end:
            self._force()
            return True
        return False

    def take(self, token: int) -> None:
        """Take in the token that was drawn. Raises InputError where the grammar does not have it."""
        opener, self._opener = self._opener, None
        if opener is not None and token == opener:
            self._marks.insert(0, self._closer)
        elif self._forced:
            self._forced.pop(0)
            if not self._forced:
                self._marks.pop(0)
                self._text = ""
        elif self._marks:
            self._text += self._text_of(token)
            self._advance()
        else:
            self._matcher.consume_token(token)
            self._check()

    def _advance(self) -> None:
        """Look for the marks in the free text. What one token says behind the last one has to begin the grammar;
        where it does not, the mark was a part of the free text."""
        while self._marks and (place := self._text.find(self._marks[0])) >= 0:
            rest = self._text[place + len(self._marks[0]) :]
            if len(self._marks) == 1 and rest:
                begun = self._encode(rest)
                if self._matcher.validate_tokens(begun) < len(begun):
                    self._text = rest
                    continue
                self._matcher.consume_tokens(begun)
            self._marks.pop(0)
            self._text = rest

    def _force(self) -> None:
        mark = self._marks[0]
        said = next((size for size in range(len(mark) - 1, 0, -1) if self._text.endswith(mark[:size])), 0)
        self._forced = self._encode(mark[said:])

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InputError(f"grammar: {one_line(self._matcher.get_error())}")
