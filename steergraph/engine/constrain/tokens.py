"""A tokenizer as llguidance reads it: the bytes of every token, which are control tokens, and text to tokens.

Knows tokenizers. Knows nothing of grammars.
"""

from collections.abc import Collection
from copy import copy
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper


class PlainText:
    """What llguidance asks of a tokenizer; text never becomes a control token.

    By itself llguidance spells forced text as the tokenizer does, so that a grammar whose text holds `<|im_end|>` (a
    JSON constant, a line of a file) would allow the end of the turn there and nothing else.
    """

    def __init__(self, tokenizer: Any, eos: Collection[int]) -> None:
        backend = copy(tokenizer.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        bytes_of = LLTokenizer(backend.to_str(), slices=[])
        self.tokens = [bytes_of.decode_bytes([token]) for token in range(bytes_of.vocab_size)]
        self.special_token_ids = [k for k in range(bytes_of.vocab_size) if bytes_of.is_special_token(k)]
        if not eos:  # a token that no model draws
            self.tokens.append(b"<|end of a model without one|>")
            self.special_token_ids.append(len(self.tokens) - 1)
        self.eos = sorted(eos) or [len(self.tokens) - 1]
        self.eos_token_id = self.eos[0]
        self.bos_token_id = None
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return plain_ids(self._tokenizer, text)


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of `text`, none of them a control token."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    ids: list[int] = encoded["input_ids"]
    return ids


def token_table(tokenizer: Any, eos: Collection[int]) -> LLTokenizer:
    """The table for `tokenizer`; `eos` are the tokens that end an answer. Takes seconds for a large vocabulary."""
    plain = PlainText(tokenizer, eos)
    return LLTokenizer(TokenizerWrapper(plain), n_vocab=len(plain.tokens), eos_token=plain.eos)
