"""OpenAI's request bodies as requests to an engine.

Knows both vocabularies. A field that changes an answer and can't be honoured is refused, and so is one that nobody
knows, since it may be misspelt; what changes nothing (`user`, `tool_choice: "auto"` without tools) is passed over.
"""

import difflib
import secrets
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from steergraph.base.errors import InputError, first_problem
from steergraph.base.records import Frozen, Loose
from steergraph.engine.protocol import Message, ModelInfo, Request, Sampling, Span
from steergraph.engine.steering.records import Steering
from steergraph.engine.wire.requests import stop_sequences
from steergraph.engine.wire.steering_field import from_spec, parse_spec
from steergraph.engine.wire.structured import ResponseFormat, StructuredOutputs, grammar_of
from steergraph.web.messages import ChatMessage, need_characters
from steergraph.web.sources import Sources

MAX_MESSAGES = 4096
COMPLETION_TOKENS = 16
"""OpenAI's own default for plain completions."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "reasoning_effort": ("none",),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    **dict.fromkeys(("prediction", "web_search_options", "truncate_prompt_tokens", "logits_processors"), ()),
    # vLLM's.
    **dict.fromkeys(("stop_token_ids", "bad_words"), ([],)),
    **dict.fromkeys(
        ("ignore_eos", "include_stop_str_in_output", "use_beam_search", "continue_final_message"), (False,)
    ),
    **dict.fromkeys(("add_special_tokens", "return_token_strs"), (False,)),
    **dict.fromkeys(("skip_special_tokens", "spaces_between_special_tokens", "add_generation_prompt"), (True,)),
    "length_penalty": (1,),
    # vLLM's former names for `structured_outputs`.
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), ()),
    "echo": (False,),
    "suffix": ("",),
    "audio": (),
}
"""Fields that would change an answer, and the values at which they don't."""
PASSED_OVER = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "cache_salt", "priority", "request_id"),
    }
)
"""Fields that change no answer, whatever they say."""


Prompt = Annotated[str, Field(strict=True)] | tuple[Annotated[int, Field(ge=0, strict=True)], ...]


class StreamOptions(Frozen):
    include_usage: bool = False
    include_obfuscation: bool = False
    continuous_usage_stats: bool = False
    """Of others: neither changes what is streamed here."""


class TemplateArguments(Frozen):
    enable_thinking: bool = False


class Body(Loose):
    """What every request says; null is as good as left out."""

    model: str

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            raise InputError("the body is not a JSON object")
        need_characters(content, "the body holds")
        said = {key: value for key, value in content.items() if value is not None}
        for field, value in said.items():
            if field in NEUTRAL and value not in NEUTRAL[field]:
                raise InputError(f"{field}: not supported here; leave it out")
            if field not in cls.model_fields and field not in NEUTRAL and field not in PASSED_OVER:
                near = difflib.get_close_matches(field, cls.model_fields, n=1)
                raise InputError(f"{field[:80]}: there is no such field{f'; nearest: {near[0]}' if near else ''}")
        return said


class GenerationBody(Body):
    max_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=100)
    min_tokens: int = Field(default=0, ge=0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | tuple[str, ...] | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    """As vLLM has it: one of json, regex, choice, grammar (llguidance's Lark) and json_object."""
    steering: dict[str, Any] | None = None
    """As EasySteer has it: {"vectors": [{"source", "scale", "layers", "apply"}]}; docs/engines.md."""
    steering_suspend: tuple[Span, ...] = Field(default=(), max_length=64)


class ChatBody(GenerationBody):
    """POST /v1/chat/completions."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    chat_template_kwargs: TemplateArguments = TemplateArguments()


class CompletionBody(GenerationBody):
    """POST /v1/completions: a prompt or several, in text or in tokens."""

    prompt: Prompt | Annotated[tuple[Prompt, ...], Field(min_length=1)]
    prompt_logprobs: Literal[0] | None = None
    """Each prompt token's own log-probability; with `max_tokens` 0 nothing else is done."""

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Each prompt, where there is one or there are several."""
        several = isinstance(self.prompt, tuple) and not all(isinstance(one, int) for one in self.prompt)
        return self.prompt if several else (self.prompt,)  # type: ignore[return-value]


class TokenizeBody(Body):
    """POST /tokenize, as vLLM has it: the tokens of a prompt, or of messages with the chat template."""

    prompt: str | None = None
    messages: tuple[ChatMessage, ...] | None = Field(default=None, max_length=MAX_MESSAGES)
    chat_template_kwargs: TemplateArguments = TemplateArguments()


def steering_of(body: GenerationBody, sources: Sources) -> Steering | None:
    """Raises SteeringError."""
    if body.steering is None:
        return None
    return from_spec(parse_spec(body.steering), sources.layers, sources.name)


def request_of(
    body: ChatBody | CompletionBody,
    prompt: tuple[Message, ...] | list[int],
    sources: Sources,
    info: ModelInfo,
    defaults: Sampling,
) -> Request:
    """The request to the engine. `prompt` is messages, or a plain completion's tokens. What is not said is the model's
    own default, and a random seed. Raises InputError."""
    messages = prompt if isinstance(prompt, tuple) else None
    if isinstance(body, ChatBody):
        most = body.max_completion_tokens or body.max_tokens or info.window
        thinking = body.chat_template_kwargs.enable_thinking
    else:
        # A caller who wants no token at all is not handed on to the engine, whose least is one.
        most, thinking = COMPLETION_TOKENS if body.max_tokens is None else max(1, body.max_tokens), False
    try:
        return Request(
            messages=messages,
            token_ids=tuple(prompt) if isinstance(prompt, list) else None,
            steering=steering_of(body, sources),
            suspend=body.steering_suspend,
            grammar=grammar_of(body.response_format, body.structured_outputs),
            sampling=Sampling(
                temperature=defaults.temperature if body.temperature is None else body.temperature,
                top_p=defaults.top_p if body.top_p is None else body.top_p,
                top_k=defaults.top_k if body.top_k is None else max(0, body.top_k),
                max_new_tokens=min(most, info.window),
                min_p=body.min_p,
                repetition_penalty=body.repetition_penalty,
                min_new_tokens=body.min_tokens,
            ),
            seed=secrets.randbits(31) if body.seed is None else body.seed,
            stop=stop_sequences(body.stop),
            enable_thinking=thinking,
        )
    except ValidationError as error:
        raise InputError(first_problem(error)) from error
