"""A chat model whose answers have one shape: the chain behind `with_structured_output`.

Knows LangChain's parsers. Knows nothing of engines.
"""

from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import OutputParserLike
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

Method = Literal["function_calling", "json_schema", "json_mode"]


def structured(
    model: BaseChatModel, schema: dict[str, Any] | type, *, include_raw: bool, method: Method
) -> Runnable[LanguageModelInput, Any]:
    """`model` and the parser of `schema`: a pydantic class gives objects, everything else dictionaries."""
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser: OutputParserLike[Any]
    described: dict[str, Any] = {"kwargs": {"method": method}, "schema": convert_to_json_schema(schema)}
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        bound: Runnable[LanguageModelInput, Any] = model.bind_tools(
            [schema], tool_choice=name, ls_structured_output_format=described
        )
        if is_class:
            parser = PydanticToolsParser(tools=[schema], first_tool_only=True)  # type: ignore[list-item]
        else:
            parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    elif method in ("json_schema", "json_mode"):
        shape = described["schema"] if method == "json_schema" else {}
        bound = model.bind(json_schema=shape, ls_structured_output_format=described)
        parser = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()  # type: ignore[arg-type]
    else:
        raise ValueError(f"method {method!r}: function_calling, json_schema or json_mode")
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
