"""The engine's protocol: what a generation asks for and what it answers. No torch here.

Everything above the engine is written against `Engine`. The in-process one is `steergraph.engine.local`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from steergraph.base.records import Frozen
from steergraph.engine.constrain.grammar import Grammar, GrammarKind
from steergraph.engine.steering.records import Receipt, Steering

if TYPE_CHECKING:
    import torch

Role = Literal["system", "user", "assistant"]
WeightType = Literal["auto", "float32", "float16", "bfloat16"]
"""How a model's weights are held (loading/weight_types.py). On a CPU float16 is of the matrices alone: activations and
sums are float32. float32 and bfloat16 are of everything, as float16 is on a GPU."""
FinishReason = Literal["stop", "length", "deadline", "cancelled"]


class Message(Frozen):
    """One message of a chat, as the model's chat template takes it."""

    role: Role
    content: str


class Sampling(Frozen):
    """How tokens are drawn. The defaults are greedy."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 keeps all."""
    max_new_tokens: int = Field(default=128, ge=1)
    # The rest are transformers' logit processors under their own names there; the defaults leave everything as it is.
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Of every token that the prompt or the answer holds."""
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    min_new_tokens: int = Field(default=0, ge=0)
    """No end of turn before so many tokens."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    typical_p: float = Field(default=1.0, gt=0, le=1)
    epsilon_cutoff: float = Field(default=0.0, ge=0, lt=1)
    eta_cutoff: float = Field(default=0.0, ge=0, lt=1)


class Span(Frozen):
    """A machine-read stretch of the answer in which steering is suspended: from the token that completes `open` to the
    token that completes `close`. Both are plain strings; an unclosed span lasts to the end of the answer."""

    open: str = Field(min_length=1)
    close: str = Field(min_length=1)


class Request(Frozen):
    """One generation. Exactly one of `messages` and `token_ids`."""

    messages: tuple[Message, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    steering: Steering | None = None
    suspend: tuple[Span, ...] = ()
    """Where in the generated text steering is switched off and on again."""
    grammar: Grammar | None = None
    """What the answer is held to, token by token. Thinking is free."""
    sampling: Sampling = Sampling()
    seed: int = 0
    """Same seed, same text, whatever else is in the batch."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after submission at which generation ends with what it has."""
    enable_thinking: bool = False
    """Handed to the chat template."""
    measure_kl: bool = False
    """Have the receipt say what the steering spent; costs one more pass over prompt and answer, for two rows."""

    @model_validator(mode="after")
    def _one_prompt(self) -> "Request":
        if (self.messages is None) == (self.token_ids is None):
            raise ValueError("a request has either messages or token_ids")
        if not (self.messages or self.token_ids):
            raise ValueError("a request needs at least one message or token")
        return self


class Usage(Frozen):
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """From the start of this request's batch to this row's end."""
    cached_tokens: int = 0
    """Prompt tokens that did not go through the model, because an earlier request had sent them."""


class Completion(Frozen):
    """What a request was answered with."""

    text: str
    """The answer, without thinking and special tokens."""
    thinking: str
    """What stood inside <think>, "" where there was none."""
    token_ids: tuple[int, ...]
    """Every generated token, the end-of-turn token excluded."""
    finish_reason: FinishReason
    usage: Usage
    receipt: Receipt | None
    """None where no steering was asked for."""
    complete: bool | None = None
    """Whether the answer is whole by the request's grammar; None where it had none, or nobody checked."""


class ScoreRequest(Frozen):
    """Log-likelihood of `continuation` after `messages` (with the generation prompt) or after `token_ids`."""

    messages: tuple[Message, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    continuation: str | tuple[int, ...]
    steering: Steering | None = None


class Scores(Frozen):
    """How likely a continuation is, token by token."""

    logprobs: tuple[float, ...]
    """Natural logarithm of each continuation token's probability."""
    token_ids: tuple[int, ...]
    receipt: Receipt | None
    likeliest: tuple[float, ...] = ()
    """Natural logarithm of the probability of the token that the model would rather have said at each place, or of this
    one; empty where a server does not tell."""

    @property
    def regret(self) -> float | None:
        """Nats a token by which the continuation is less likely than what the model would say at each of its places: 0
        for its own greedy answer. None where that is not known."""
        if not self.likeliest:
            return None
        return (sum(self.likeliest) - self.total) / len(self.likeliest)

    @property
    def total(self) -> float:
        """Natural logarithm of the whole continuation's probability."""
        return sum(self.logprobs)


class ModelInfo(Frozen):
    """What the floors above may know of the model."""

    name: str
    """As the user named it: "pocket", a hub id, or the name of a folder or GGUF file (never an absolute path)."""
    revision: str
    """Hub commit, or SHA-256 (first 16 hex characters) of the local weights' index or GGUF file."""
    architecture: str
    n_layers: int
    hidden_size: int
    window: int
    """Tokens of prompt and answer together."""
    kind: Literal["instruct", "base"]
    """`base` where the tokenizer has no chat template."""
    quantization: str = ""
    """How a GGUF file has its weights, and as what they run: "Q4_1 as float32"; of others "as float16" where the engine
    made them that, else ""."""
    file_sha256: str = ""
    """Of a GGUF file."""

    @model_serializer(mode="wrap")
    def _without_blanks(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        return {key: value for key, value in found.items() if value or key not in ("quantization", "file_sha256")}


class Directions(Protocol):
    """One steering vector, as far as the engine looks at it; `vectors.vector.SteeringVector` is one."""

    @property
    def name(self) -> str: ...
    @property
    def directions(self) -> "Mapping[int, torch.Tensor]":
        """[hidden_size] by layer, raw (not normalised)."""
        ...

    @property
    def model(self) -> str:
        """As `ModelInfo.name`; "" where it is not known."""
        ...

    @property
    def revision(self) -> str: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def median_residual_norms(self) -> Mapping[int, float]:
        """By layer; empty where it is not known: the engine then measures it."""
        ...

    @property
    def hash(self) -> str: ...


Named = Mapping[str, Directions]
"""Vectors by name: what an engine can switch on."""


class Handle(Protocol):
    """A submitted request. Awaitable: `completion = await handle`; cancelling the awaiting task cancels the request."""

    def result(self, timeout: float | None = None) -> Completion: ...

    def stream(self) -> Iterator[str]:
        """Text as it grows, piece by piece; the pieces join to the raw generated text."""
        ...

    def cancel(self) -> None:
        """The row leaves its batch within one decoding step; `result()` then has finish_reason "cancelled"."""
        ...

    def __await__(self) -> Any: ...


class Engine(Protocol):
    """Anything that can speak, steered. Methods may be called from any thread; one worker thread owns the model."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def library(self) -> Named:
        """The vectors this engine can switch on, by name."""
        ...

    @property
    def grammars(self) -> frozenset[GrammarKind]:
        """What grammars its answers can be held to; a request with another kind is an InputError."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Prompt length of `messages` with the chat template and the generation prompt, in the model's own tokens."""
        ...

    def submit(self, request: Request) -> Handle:
        """Queue one generation. It is checked at once.

        Returns:
            A handle: `result()`, `stream()`, `cancel()`; awaitable.

        Raises:
            SteeringError: its steering can't be carried out: unknown vector, wrong width, layer out of range.
            InputError: anything else can't be, as a prompt longer than the window.
        """
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`.

        Raises:
            InputError: as `submit`, for the first request that can't be carried out.
        """
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-likelihoods in the order of `requests`.

        Raises:
            InputError: as `submit`; or the engine can't score.
        """
        ...

    def close(self) -> None:
        """End: what waits or runs fails with EngineClosed. Closing twice is no error."""
        ...
