"""Grammars for one model: checked, compiled once, and a fresh state of one for each answer.

Knows llguidance and tokenizers. Knows nothing of batches. Safe to use from several threads.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from steergraph.base.errors import InputError, one_line
from steergraph.engine.constrain.constraint import Constraint
from steergraph.engine.constrain.grammar import GRAMMAR_KINDS, Grammar, GrammarKind, literal
from steergraph.engine.constrain.schemas import styled
from steergraph.engine.constrain.tokens import plain_ids, token_table
from steergraph.engine.decode.text import CLOSE_THINKING, OPEN_THINKING, Detokenizer

KEPT = 64
"""Compiled grammars that are kept."""
# By default llguidance gives up on a line that is none of a dozen kinds (an edit's REPLACE).
INITIAL_FUEL, STEP_FUEL = 3_000_000, 2_000_000
# It descends from rule to rule, and a stack that is not deep enough ends the process: of a thread's usual 8 MB some
# thousand rules, one leading to the next, are enough for that.
STACK = 2**29
MOST_RULES, MOST_REFERENCES = 10_000, 1_000


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
        try:
            matcher = self._compiled(grammar.model_dump_json(exclude={"after", "reserve", "optional"}))
        except InputError:
            raise
        except (ValueError, RecursionError) as error:  # pydantic's own errors of both ways are ValueErrors
            raise InputError("grammar: the JSON schema is too deeply nested") from error
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
        return plain_ids(self._tokenizer, text)

    def _compile(self, said: str) -> LLMatcher:
        grammar = Grammar.model_validate_json(said)
        text = _written(grammar)
        if text.count("\n") > MOST_RULES or text.count('"$ref"') > MOST_REFERENCES:
            raise InputError(f"grammar: more than {MOST_RULES} lines of rules, or {MOST_REFERENCES} references")
        with self._lock:
            before = threading.stack_size(STACK)
            try:
                with ThreadPoolExecutor(1) as pool:
                    made = pool.submit(self._matcher, text)
                    threading.stack_size(before)
                    return made.result()
            finally:
                threading.stack_size(before)

    def _matcher(self, text: str) -> LLMatcher:
        limits = LLParserLimits(initial_lexer_fuel=INITIAL_FUEL, step_lexer_fuel=STEP_FUEL)
        matcher = LLMatcher(self._table, text, log_level=0, limits=limits)
        _refuse(matcher)
        trial = matcher.deep_copy()
        trial.compute_bitmask()  # some errors are found at the first step
        _refuse(trial)
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
