"""A chat model whose answers have one shape: the chain behind `with_structured_output`.

An answer is parsed only where it is complete, which its finish reason says, and only as it stands: nothing is repaired.
Then it is held to its schema. Knows LangChain's chains and JSON Schema. Knows nothing of engines.
"""

import json
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Literal

from jsonschema import ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from referencing import Registry
from referencing.exceptions import Unresolvable

from steergraph.base.errors import InputError, first_problem, one_line

Method = Literal["function_calling", "json_schema", "json_mode"]
_CUT = {"length": "its token limit", "deadline": "its deadline", "cancelled": "a cancellation"}


def structured(
    model: BaseChatModel, schema: dict[str, Any] | type, *, include_raw: bool, method: Method
) -> Runnable[LanguageModelInput, Any]:
    """`model` and the parser of `schema`: a pydantic class gives objects, everything else dictionaries. Raises
    InputError for a schema that is none."""
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    shape = convert_to_json_schema(schema)
    described: dict[str, Any] = {"kwargs": {"method": method}, "schema": shape}
    fits: Callable[[Any], Any] = _reader_of(schema) if is_class else _checker_of(shape)
    parser: Runnable[Any, Any]
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        bound: Runnable[LanguageModelInput, Any] = model.bind_tools(
            [schema], tool_choice=name, ls_structured_output_format=described
        )
        if is_class:
            parser = PydanticToolsParser(tools=[schema], first_tool_only=True)  # type: ignore[list-item]
        else:
            called = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
            parser = called | RunnableLambda(lambda found: None if found is None else fits(found))
    elif method in ("json_schema", "json_mode"):
        asked = shape if method == "json_schema" else {}
        bound = model.bind(json_schema=asked, ls_structured_output_format=described)
        parser = RunnableLambda(lambda message: fits(_json_of(str(message.text))))
    else:
        raise ValueError(f"method {method!r}: function_calling, json_schema or json_mode")
    parser = RunnableLambda(_complete) | parser
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _complete(message: AIMessage) -> AIMessage:
    """`message`, where the model came to its end. Raises OutputParserException."""
    by = _CUT.get(message.response_metadata.get("finish_reason", ""))
    if by:
        raise OutputParserException(f"the answer was cut off by {by}, so it is not complete", llm_output=message.text)
    return message


def _json_of(text: str) -> Any:
    """The JSON value that an answer holds: the first fenced block, or what begins at the first brace or bracket. Raises
    OutputParserException."""
    fenced = re.search(r"```\w*\n(.*?)```", text, re.DOTALL)
    body = fenced[1] if fenced else text
    start = re.search(r"[{\[]", body)
    if start is None:
        raise OutputParserException("the answer has no JSON", llm_output=text)
    try:
        return json.JSONDecoder().raw_decode(body[start.start() :])[0]
    except ValueError as error:
        raise OutputParserException(f"the answer is not valid JSON: {error}", llm_output=text) from error
    except RecursionError:
        raise OutputParserException("the answer's JSON is nested too deep", llm_output=text) from None


def _need_json(value: Any) -> None:
    """Raise OutputParserException for what Python's readers let through and JSON does not have."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OutputParserException(
            "the answer is not valid JSON: NaN is no JSON, nor are infinities and sets"
        ) from error


def _reader_of(schema: Any) -> Callable[[Any], Any]:
    """What makes an object of a pydantic class of a value, or raises OutputParserException."""
    read = getattr(schema, "model_validate", None) or schema.parse_obj

    def fits(value: Any) -> Any:
        _need_json(value)
        try:
            return read(value)
        except ValueError as error:
            raise OutputParserException(f"the answer does not fit {schema.__name__}: {first_problem(error)}") from error

    return fits


def _checker_of(shape: dict[str, Any]) -> Callable[[Any], Any]:
    """What gives back a value that fits a JSON Schema, or raises OutputParserException."""
    kind = validator_for(shape)
    try:
        kind.check_schema(shape)
    except SchemaError as error:
        raise InputError(f"the schema is none: {one_line(error.message)}") from error
    validator = kind(shape, registry=Registry())  # nothing is fetched for a reference that leads elsewhere

    def fits(value: Any) -> Any:
        _need_json(value)
        try:
            validator.validate(value)
        except ValidationError as error:
            where = f" at {error.json_path}" if error.path else ""
            raise OutputParserException(
                f"the answer does not fit its schema{where}: {one_line(error.message)}"
            ) from error
        except (Unresolvable, RecursionError) as error:
            raise OutputParserException(
                f"the answer can't be held to its schema: {one_line(str(error), 100)}"
            ) from error
        return value

    return fits
