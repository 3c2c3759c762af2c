"""JSON schemas as llguidance is given them: how JSON is written, and that a finite document satisfies them.

Knows schemas. Knows nothing of tokens.
"""

import json
from collections.abc import Mapping
from typing import Any

from steergraph.base.errors import InputError

# Left to itself a small model fills its answer with blanks wherever JSON allows some.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def styled(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with JSON written in one way. Raises InputError where it refers to itself without an end: llguidance
    takes such a schema, and a model then writes until its tokens are spent."""
    if reference := endless(schema):
        raise InputError(f"grammar: {reference} of the JSON schema refers to itself without an end")
    return {**schema, "x-guidance": _STYLE}


def json_rule(schema: Mapping[str, Any]) -> str:
    """The body of a Lark rule for JSON of `schema`. Raises InputError as `styled` does."""
    return "%json " + json.dumps(styled(schema)).replace("\x7f", "\\u007f")


def endless(schema: Mapping[str, Any]) -> str | None:
    """The reference of `schema` that no finite document satisfies, or None where the schema has an end.

    A least fixpoint: a reference ends if what it names does with every other one taken to end only where that was
    shown before. What can't be told (an unknown keyword, a reference to nowhere) counts as ending: llguidance says what
    is wrong with it.
    """
    known: dict[str, bool] = {}
    _ends(schema, schema, known)
    changed = True
    while changed:
        before = dict(known)
        for reference in before:
            known[reference] = known[reference] or _ends(_target(schema, reference), schema, known)
        changed = known != before
    if _ends(schema, schema, known):
        return None
    return next((reference for reference, ends in known.items() if not ends), "#")


def _ends(schema: Any, root: Any, known: dict[str, bool]) -> bool:
    """Whether some finite value satisfies `schema`, with the references in `known` taken as they stand there."""
    if not isinstance(schema, Mapping) or "const" in schema or "enum" in schema:
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str) and not known.setdefault(reference, False):
        return False
    if any(not _ends(part, root, known) for part in _list(schema.get("allOf"))):
        return False
    for several in ("anyOf", "oneOf"):
        parts = [_ends(part, root, known) for part in _list(schema.get(several))]
        if parts and not any(parts):
            return False
    kinds = schema.get("type")
    if kinds is None:
        # llguidance reads keywords of one type as that type alone where others would be free of them.
        kinds = [
            kind
            for kind, words in (("object", ("properties", "required")), ("array", ("items", "prefixItems")))
            if any(word in schema for word in words)
        ]
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return not kinds or any(_kind_ends(kind, schema, root, known) for kind in kinds)


def _kind_ends(kind: Any, schema: Mapping[str, Any], root: Any, known: dict[str, bool]) -> bool:
    if kind == "object":
        properties, others = schema.get("properties") or {}, schema.get("additionalProperties", True)
        required = [properties.get(name, others) for name in _list(schema.get("required")) if isinstance(name, str)]
        return all(_ends(part, root, known) for part in required)
    if kind == "array":
        least = schema.get("minItems", 0)
        if not isinstance(least, int) or least < 1:
            return True
        first = _list(schema.get("prefixItems"))[:least]
        rest = [schema.get("items", True)] if least > len(first) else []
        return all(_ends(part, root, known) for part in [*first, *rest])
    return True


def _target(root: Any, reference: str) -> Any:
    """What a reference inside the document names; True, which ends, where it names nothing here."""
    if not reference.startswith("#"):
        return True
    here = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, Mapping) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here = here[int(key)]
        else:
            return True
    return here


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
