"""Grammars as requests say them: OpenAI's `response_format`, vLLM's `structured_outputs`, from a `Grammar` and back.

Knows these shapes. Knows nothing of HTTP or of who enforces them.
"""

import json
from typing import Any, Literal

from pydantic import Field, ValidationError

from steergraph.base.errors import InputError, first_problem
from steergraph.base.records import Frozen, Loose
from steergraph.engine.constrain.grammar import Grammar

ANY_OBJECT: dict[str, Any] = {"type": "object"}


class NamedSchema(Loose):
    """OpenAI's `name`, `description` and `strict` change nothing here: every schema is enforced."""

    content: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Frozen):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    def grammar(self) -> Grammar | None:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InputError("response_format: json_schema goes with type json_schema")
        if self.json_schema is not None:
            return Grammar(json_schema=self.json_schema.content)
        return Grammar(json_schema=ANY_OBJECT) if self.type == "json_object" else None


class StructuredOutputs(Frozen):
    content: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    json_object: Literal[True] | None = None

    def ours(self) -> Grammar:
        schema = self.content
        try:
            if isinstance(schema, str):
                schema = json.loads(schema)
            if self.json_object:
                if schema is not None:
                    raise InputError("structured_outputs: json and json_object are two grammars")
                schema = ANY_OBJECT
            return Grammar.model_validate(
                {"json_schema": schema, "regex": self.regex, "choice": self.choice, "lark": self.grammar}
            )
        except (ValidationError, ValueError, RecursionError) as error:
            raise InputError(f"structured_outputs: {first_problem(error)}") from error


def grammar_of(response_format: ResponseFormat | None, outputs: StructuredOutputs | None) -> Grammar | None:
    """The grammar that a body asks for. Raises InputError (one line) where it asks for two, or for none that is one."""
    asked = response_format.grammar() if response_format is not None else None
    if outputs is None:
        return asked
    if asked is not None:
        raise InputError("response_format and structured_outputs: say one of them")
    return outputs.ours()


def response_format(grammar: Grammar) -> dict[str, Any]:
    """OpenAI's field for a JSON schema."""
    schema = {"name": "answer", "schema": grammar.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def structured_outputs(grammar: Grammar) -> dict[str, Any]:
    """vLLM's field for any kind of grammar, without what `after` says."""
    said = {"json": grammar.json_schema, "regex": grammar.regex, "choice": grammar.choice, "grammar": grammar.lark}
    return {"structured_outputs": {kind: value for kind, value in said.items() if value is not None}}
