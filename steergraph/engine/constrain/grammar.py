"""What an answer has to be, as plain data: JSON of a schema, a regular expression, one of several texts, Lark.

Knows how each is said. Knows nothing of tokens or of who enforces it.
"""

import json
from typing import Any, Literal

from pydantic import Field, model_validator

from steergraph.base.records import Frozen

GrammarKind = Literal["json_schema", "regex", "choice", "lark", "after"]
GRAMMAR_KINDS: frozenset[GrammarKind] = frozenset({"json_schema", "regex", "choice", "lark", "after"})


class Grammar(Frozen):
    """Exactly one of the first four.

    With `after` the answer begins with free text, and the grammar holds behind the first `after` in it. A model that
    ends its turn without one, or has only `reserve` tokens left, is made to say it, unless the grammar is `optional`.
    """

    json_schema: dict[str, Any] | None = None
    """Draft 2020-12, as far as llguidance has it; what it has not is an error. Written with ", " and ": ", as Python's
    json does, and without other white space."""
    regex: str | None = None
    """Of the whole answer, in the syntax of Rust's `regex`; no anchors, no look-around."""
    choice: tuple[str, ...] | None = Field(default=None, min_length=1)
    lark: str | None = None
    """llguidance's dialect of Lark; begins with the rule `start`."""
    after: str = ""
    reserve: int = Field(default=0, ge=0)
    optional: bool = False
    """Whether free text alone is an answer too."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Grammar":
        if len(self.kinds - {"after"}) != 1:
            raise ValueError("a grammar is exactly one of json_schema, regex, choice and lark")
        if self.choice is not None and not all(self.choice):
            raise ValueError("choice: an empty text can't be chosen")
        if (self.reserve or self.optional) and not self.after:
            raise ValueError("reserve, optional: only of a grammar that comes after free text")
        return self

    @property
    def kinds(self) -> frozenset[GrammarKind]:
        """What an engine has to know to enforce it."""
        given = {"json_schema": self.json_schema, "regex": self.regex, "choice": self.choice, "lark": self.lark}
        said = {**given, "after": self.after or None}
        return frozenset(kind for kind in GRAMMAR_KINDS if said[kind] is not None)


def literal(text: str) -> str:
    """`text` as a Lark string, whatever it holds."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
