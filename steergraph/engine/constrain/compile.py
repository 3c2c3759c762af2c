"""Grammars for one model: checked, compiled once, and a fresh state of one for each answer.

Knows llguidance and tokenizers. Knows nothing of batches. Safe to use from several threads.
"""

import threading
from functools import cached_property, lru_cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from steergraph.base.errors import InputError, one_line
from steergraph.engine.constrain.constraint import Constraint
from steergraph.engine.constrain.grammar import GRAMMAR_KINDS, Grammar, GrammarKind, literal
from steergraph.engine.constrain.schemas import styled
from steergraph.engine.constrain.tokens import token_table
from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING, Detokenizer

KEPT = 64
"""Compiled grammars that are kept."""


class Grammars:
    """Grammars over one tokenizer. The table of its tokens is made when the first one is asked for."""

    def __init__(self, tokenizer: Any, eos: frozenset[int]) -> None:
        self._tokenizer, self._eos = tokenizer, eos
        self._lock = threading.Lock()
        self._compiled = lru_cache(KEPT)(self._compile)

    def constraint(self, grammar: Grammar, *, thinks: bool, may_think: bool) -> Constraint:
        """A fresh constraint. `thinks`: the prompt has opened a block of thinking, which is free; `may_think`: the
        answer may open one.

        Raises InputError (one line) where the grammar is none, can't be enforced, or can't be satisfied.
        """
        matcher = self._compiled(grammar.model_dump_json(exclude={"after", "reserve", "optional"}))
        marks = [CLOSE_THINKING] if thinks else []
        opener = self._added.get(OPEN_THINKING) if may_think and not thinks else None
        return Constraint(
            matcher.deep_copy(),
            self._encode,
            Detokenizer(self._tokenizer).push,
            marks=[*marks, *([grammar.after] if grammar.after else [])],
            reserve=grammar.reserve,
            optional=grammar.optional,
            opener=opener,
            closer=CLOSE_THINKING,
        )

    @cached_property
    def _added(self) -> dict[str, int]:
        return {token.content: index for index, token in self._tokenizer.added_tokens_decoder.items()}

    @property
    def kinds(self) -> frozenset[GrammarKind]:
        """What can be enforced: nothing over a tokenizer that is not of the library tokenizers."""
        return GRAMMAR_KINDS if hasattr(self._tokenizer, "backend_tokenizer") else frozenset()

    @cached_property
    def _table(self) -> LLTokenizer:
        if not self.kinds:
            raise InputError("grammar: this model's tokenizer is not of the library tokenizers, which grammars need")
        return token_table(self._tokenizer, self._eos)

    def _encode(self, text: str) -> list[int]:
        if text in self._added:
            return [self._added[text]]
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _compile(self, said: str) -> LLMatcher:
        grammar = Grammar.model_validate_json(said)
        with self._lock:
            table = self._table
        matcher = LLMatcher(table, _written(grammar), log_level=0)
        if not matcher.is_error():
            # What it can't begin is found when it is asked to, on a copy.
            trial = matcher.deep_copy()
            trial.compute_bitmask()
            _refuse(trial)
        _refuse(matcher)
        return matcher


def _refuse(matcher: LLMatcher) -> None:
    if matcher.is_error():
        problem = matcher.get_error().partition("<state>")[0]
        raise InputError(f"grammar: {one_line(problem) or 'nothing satisfies it'}")
    if warnings := matcher.get_grammar_warnings():
        raise InputError(f"grammar: {one_line('; '.join(warnings))}")


def _written(grammar: Grammar) -> str:
    """As llguidance reads it."""
    if grammar.json_schema is not None:
        return LLMatcher.grammar_from_json_schema(styled(grammar.json_schema))
    if grammar.regex is not None:
        return LLMatcher.grammar_from_regex(grammar.regex)
    if grammar.choice is not None:
        return LLMatcher.grammar_from_lark("start: " + " | ".join(map(literal, grammar.choice)))
    return LLMatcher.grammar_from_lark(str(grammar.lark))
