"""What a server answers: completions whole and in pieces, the list of models, tokens.

OpenAI's shapes, what vLLM adds to them (reasoning, token ids, prompt_logprobs, /tokenize), and under `steergraph` what
`steergraph serve` says. Every field may be missing: openai's own types insist on some that many servers leave out, and
take whatever stands in the others. Knows nothing of HTTP.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_serializer

from steergraph.base.records import Loose
from steergraph.engine.protocol import Directions, ModelInfo, Usage
from steergraph.engine.steering.records import Receipt


class Delta(Loose):
    """A message, or how much it has grown."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class TokenLogprob(Loose):
    logprob: float = Field(le=1e-3)


class Choice(Loose):
    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    token_ids: tuple[int, ...] | None = None
    prompt_logprobs: tuple[dict[int, TokenLogprob] | None, ...] | None = None
    """Of each prompt token, by its id; None for the first, before which there is nothing."""
    steergraph: "SteeringReport | None" = None
    """Where an answer to several prompts has one for each."""


class PromptDetails(Loose):
    cached_tokens: int | None = Field(default=None, ge=0)


class TokenUsage(Loose):
    prompt_tokens: int = Field(default=0, ge=0)
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens: int = Field(default=0, ge=0)
    total_tokens: int | None = None

    @classmethod
    def of(cls, usage: Usage) -> "TokenUsage":
        return cls(
            prompt_tokens=usage.prompt_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens),
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )

    @classmethod
    def sum(cls, parts: Sequence["TokenUsage"]) -> "TokenUsage":
        cached = sum((part.prompt_tokens_details.cached_tokens or 0) for part in parts if part.prompt_tokens_details)
        return cls(
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            prompt_tokens_details=PromptDetails(cached_tokens=cached),
            completion_tokens=sum(part.completion_tokens for part in parts),
            total_tokens=sum(part.total_tokens or 0 for part in parts),
        )


class SteeringReport(Loose):
    """What `steergraph serve` says of an answer."""

    receipt: Receipt | None = None
    opens_thinking: bool = False
    """Whether the text goes on inside <think>, because the prompt ended there."""
    complete: bool | None = None
    """Whether the answer is whole by the grammar that it was held to."""

    @field_serializer("receipt")
    def _whole_receipt(self, receipt: Receipt | None) -> dict[str, Any] | None:
        return receipt.model_dump(mode="json") if receipt is not None else None


class Reply(Loose):
    """An answer, or a piece of one."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    choices: tuple[Choice, ...] = ()
    usage: TokenUsage | None = None
    steergraph: SteeringReport | None = None


def direction_hash(vector: Directions, layer: int) -> str:
    """SHA-256 of one direction's float32 bytes, hex, first 16 characters."""
    data = vector.directions[layer].detach().float().cpu().contiguous().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


class OfferedVector(Loose):
    """A vector that `steergraph serve` can switch on."""

    source: str
    """Its file, as a request's `steering` names it."""
    name: str
    hash: str
    directions: dict[int, str]
    """`direction_hash` of each layer's direction."""

    @classmethod
    def of(cls, source: str, vector: Directions) -> "OfferedVector":
        hashes = {layer: direction_hash(vector, layer) for layer in sorted(vector.directions)}
        return cls(source=source, name=vector.name, hash=vector.hash, directions=hashes)


class SteeringOffer(Loose):
    """What `steergraph serve` says of its model."""

    info: ModelInfo
    vectors: tuple[OfferedVector, ...] = ()


class ModelEntry(Loose):
    id: str
    object: Any = None
    created: Any = None
    owned_by: str | None = None
    max_model_len: int | None = None
    steergraph: SteeringOffer | None = None


class ModelList(Loose):
    object: Any = None
    data: tuple[ModelEntry, ...] = Field(default=(), max_length=10_000)


class Tokenized(Loose):
    """A prompt in tokens, as vLLM's /tokenize gives them."""

    count: int
    max_model_len: int | None = None
    tokens: tuple[int, ...]
