"""What an answer with tools or of one shape is held to, where an engine can hold it to something.

Knows tools, schemas and grammars. Knows nothing of LangChain or engines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steergraph.chat.tools import Tools
from steergraph.engine.constrain.grammar import Grammar, literal
from steergraph.engine.constrain.schemas import json_rule
from steergraph.engine.wire.structured import ANY_OBJECT
from steergraph.engine.wire.tool_calls import arguments_key, tags


def shape_grammar(schema: Mapping[str, Any]) -> Grammar:
    """JSON of `schema`; any object where that is empty."""
    return Grammar(json_schema=closed(schema) if schema else ANY_OBJECT)


def tool_grammar(tools: Tools) -> Grammar | None:
    """Calls of `tools`, in their format; None where the format is none that can be enforced.

    Where no tool has to be called the answer is free up to the first call's tag. A bare JSON object has no tag, and
    Python's notation no schema: of those only a call that must come, as JSON, can be held to its shape.
    """
    if tools.format == "python" or (tools.format == "json" and tools.choice is None):
        return None
    named = [schema for schema in tools.schemas if tools.choice in (None, "any", schema["name"])]
    rules = _call_rules(named, arguments_key(tools.format))
    if tools.format == "json":
        return Grammar(lark="\n".join(["start: call", *rules]))
    opened, closed_by = tags(tools.format)
    tagged = f"{literal(chr(10))} call {literal(chr(10) + closed_by)}"
    more = "" if tools.only is not None else f" ({literal(chr(10) + opened)} {tagged})*"
    if tools.choice is None:
        return Grammar(lark="\n".join([f"start: {tagged}{more}", *rules]), after=opened, optional=True)
    return Grammar(lark="\n".join([f"start: {literal(opened)} {tagged}{more}", *rules]))


def _call_rules(schemas: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    names = range(len(schemas))
    rules = ["call: " + " | ".join(f"call_{k}" for k in names)]
    for k, schema in zip(names, schemas, strict=True):
        head = f'{{"name": {literal(schema["name"])}, "{key}": '
        rules.append(f"call_{k}: {literal(head)} arguments_{k} {literal('}')}")
        rules.append(f"arguments_{k}: {json_rule(closed(schema.get('parameters') or ANY_OBJECT))}")
    return rules


def closed(schema: Any) -> Any:
    """`schema` without properties that it does not name, where it does not say whether there may be others: a small
    model invents some. What fits this fits `schema`."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    # Parts that are put together with others must leave room for them; values are no schemas.
    kept = {"allOf", "not", "if", "then", "else", "const", "enum", "default", "examples"}
    inside = {key: value if key in kept else _closed_members(key, value) for key, value in schema.items()}
    together = {"allOf", "anyOf", "oneOf", "$ref", "additionalProperties", "patternProperties"}
    if "properties" in schema and not together & set(schema):
        inside["additionalProperties"] = False
    return inside


def _closed_members(key: str, value: Any) -> Any:
    """Under these keywords a name is no keyword: a property may be called `properties`."""
    if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
        return {name: closed(part) for name, part in value.items()}
    return closed(value)
