"""`SteeredChat`: a LangChain chat model over an engine, in this process or behind a server.

Knows LangChain and the engine's protocol. How tools are written is `tools`' business, how messages are turned into the
engine's `messages`'.

    chat = SteeredChat(model="pocket")
    steered = chat.bind(steering={"components": [{"vector": "math", "layer": 6, "alpha": 8}]})
    print(steered.invoke("What is 3 + 4?").response_metadata["steering"])
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, model_validator

from steergraph.base.errors import InputError
from steergraph.chat.messages import convert
from steergraph.chat.replies import last, piece_of, result
from steergraph.chat.request import CallOptions, Engines, VisibleText, call_options
from steergraph.chat.structured import structured
from steergraph.chat.tools import Tools
from steergraph.engine.protocol import Engine, Message, Request
from steergraph.engine.steering.records import Steering
from steergraph.engine.streaming import text_chunks
from steergraph.engine.wire.tool_calls import format_of


class SteeredChat(BaseChatModel):
    """A chat model whose answers can be steered, call by call.

    Every field can be bound (`chat.bind(steering=..., seed=3)`), given to one call (`chat.invoke(x, dose=0)`), or made
    configurable (`chat.configurable_fields(dose=ConfigurableField(id="dose"))`). Copies share their engine.

    `usage_metadata` has the tokens; `response_metadata` has `model_name`, `finish_reason`, `seed`, `complete` (whether
    the answer is whole by the schema that it was held to; None where it was free) and `steering`: the receipt, or None
    where nothing was steered. Raises InputError (one line) for what can't be done.
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    model_name: str = Field(default="pocket", alias="model")
    """pocket, a folder, a GGUF file, a hub id, or a server's address (docs/models.md); opened on first use."""
    vectors: str | None = None
    """A folder of vectors for the engine that is opened."""
    engine: Any = Field(default=None, exclude=True, repr=False)
    """An engine to use instead of opening one. It stays open; `close` closes only what was opened here."""
    steering: Steering | None = None
    dose: float = Field(default=1.0, allow_inf_nan=False)
    """Multiplies every component's alpha; 0 is off."""
    suspend: bool = True
    """Whether steering is off inside tool calls and JSON, which programs read."""
    constrain: bool = True
    """Whether tool calls and JSON are held to their schema token by token, where the engine can."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
    seed: int = 0
    stop: list[str] | None = None
    timeout: float | None = Field(default=None, gt=0)
    """Seconds after which an answer ends with what there is (`finish_reason` "deadline")."""
    enable_thinking: bool = False
    """What is thought is in `additional_kwargs["reasoning_content"]`, not in the answer."""
    tool_format: Literal["auto", "hermes", "json", "python"] = "auto"
    """How tools are described and called; auto goes by the model's chat template."""
    engines: Any = Field(default_factory=Engines, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, fields: Any) -> Any:
        """A misspelt field would else be passed over. `streaming` is what some hosts give every chat model."""
        known = {*cls.model_fields, *(field.alias for field in cls.model_fields.values()), "streaming"}
        if isinstance(fields, dict) and (unknown := sorted(set(fields) - known)):
            raise ValueError(f"no such field: {', '.join(unknown)}")
        return fields

    def opened(self) -> Engine:
        """The engine, opened if need be."""
        engine: Engine = self.engine if self.engine is not None else self.engines.get(self.model_name, self.vectors)
        return engine

    def close(self) -> None:
        """Close the engines that were opened here, also those of copies."""
        self.engines.close()

    @property
    def _llm_type(self) -> str:
        return "steergraph"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        fields = self.model_dump(mode="json", exclude={"cache", "callbacks", "tags", "metadata", "verbose"})
        return {**fields, "engine": self.engine.info.model_dump() if self.engine is not None else None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop if stop is not None else self.stop, **kwargs)
        params["ls_provider"] = "steergraph"
        params["ls_model_name"] = kwargs.get("model") or self._name()
        return params

    def _name(self) -> str:
        return str(self.engine.info.name) if self.engine is not None else self.model_name

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of the whole prompt, with the chat template, the tools and the generation prompt."""
        known = self._tools([convert_to_openai_tool(tool) for tool in tools or ()], None)
        return self.opened().count_tokens(convert(messages, known, known.instruction() if known else ""))

    def get_num_tokens(self, text: str) -> int:
        """Tokens that `text` adds to a prompt."""
        count = self.opened().count_tokens
        with_text, without = (count([Message(role="user", content=content)]) for content in (text, ""))
        return max(0, with_text - without)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools. `tool_choice`: None or "auto", "any" (or "required", True), a tool's name, or "none".

        The tools are described in the system message, in the format that the model knows, and calls are read out of
        the answer. With `constrain` and an engine in this process, calls fit their tools' schemas and a choice is made;
        else they are asked for, and a model may not follow. `strict` has no effect.
        """
        schemas = [convert_to_openai_tool(tool) for tool in tools]
        self._tools(schemas, tool_choice)  # a wrong choice is told here
        bound: Runnable[LanguageModelInput, Any] = self.bind(tools=schemas, tool_choice=tool_choice, **kwargs)
        return bound

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["function_calling", "json_schema", "json_mode"] = "function_calling",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """This model with answers of one shape: called as a tool, as JSON of a schema, or as JSON that the prompt asks
        for (`json_mode`). With `constrain` and an engine in this process it has that shape, unless `max_tokens` cuts it
        off. A shape that was missed is OutputParserException, or `parsing_error` with `include_raw`."""
        if kwargs:
            raise ValueError(f"unknown arguments {sorted(kwargs)}")
        return structured(self, schema, include_raw=include_raw, method=method)

    def _tools(self, schemas: Sequence[Mapping[str, Any]], choice: object) -> Tools | None:
        if choice in ("none", False) and choice is not None:
            return None
        functions = tuple(schema["function"] for schema in schemas)
        if isinstance(choice, dict):
            choice = choice.get("function", choice).get("name")
        if choice in ("required", True):
            choice = "any"
        elif choice in ("auto", None):
            choice = None
        if not functions:
            return None
        names = sorted(function["name"] for function in functions)
        if choice not in (None, "any", *names):
            raise InputError(f"tool_choice {choice!r}: there are the tools {', '.join(names)}")
        return Tools(functions, choice if isinstance(choice, str) else None, self._format())

    def _format(self) -> Any:
        if self.tool_format != "auto":
            return self.tool_format
        engine = self.engine if self.engine is not None else self.engines.known(self.model_name, self.vectors)
        return format_of(getattr(getattr(getattr(engine, "loaded", None), "tokenizer", None), "chat_template", None))

    def _ask(
        self, messages: list[BaseMessage], stop: list[str] | None, arguments: dict[str, Any]
    ) -> tuple[Engine, Request, CallOptions]:
        # Opening a model takes seconds: not to be called in an event loop.
        engine = self.opened()
        tools = self._tools(arguments.pop("tools", None) or (), arguments.pop("tool_choice", None))
        schema = arguments.pop("json_schema", None)
        if (other := arguments.pop("model", None)) not in (None, self.model_name, engine.info.name):
            raise InputError(
                f"model {other!r}: this chat speaks with {engine.info.name}; make another for another model"
            )
        options = call_options(self, arguments, tools, schema, stop)
        return engine, options.request(convert(messages, tools, options.instruction()), engine.grammars), options

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        engine, request, options = self._ask(messages, stop, kwargs)
        handle = engine.submit(request)
        try:
            completion = handle.result()
        except BaseException:
            handle.cancel()
            raise
        return result(completion, options, engine.info.name)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        engine, request, options = await asyncio.to_thread(self._ask, messages, stop, kwargs)
        return result(await engine.submit(request), options, engine.info.name)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        engine, request, options = self._ask(messages, stop, kwargs)
        visible, handle = VisibleText(options), engine.submit(request)
        try:
            for piece in handle.stream():
                if text := visible.push(piece):
                    chunk = piece_of(text)
                    if run_manager:
                        run_manager.on_llm_new_token(text, chunk=chunk)
                    yield chunk
            yield last(handle.result(), options, visible, engine.info.name)
        finally:
            handle.cancel()  # whoever stops listening stops the generation; a finished one does not mind

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        engine, request, options = await asyncio.to_thread(self._ask, messages, stop, kwargs)
        visible, handle = VisibleText(options), engine.submit(request)
        async for piece in text_chunks(handle):
            if text := visible.push(piece):
                chunk = piece_of(text)
                if run_manager:
                    await run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
        yield last(handle.result(), options, visible, engine.info.name)
