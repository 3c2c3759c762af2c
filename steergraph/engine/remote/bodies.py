"""Requests of ours as the bodies a server understands, and receipts for what was sent.

Knows both vocabularies. Knows nothing of connections or answers.
"""

from typing import Any

from steergraph.engine.protocol import Named, Request, Usage
from steergraph.engine.remote.address import RemoteError
from steergraph.engine.remote.server import Server
from steergraph.engine.steering.directions import SteeringError, look_up
from steergraph.engine.steering.plans import check_steering, plan_steering
from steergraph.engine.steering.records import Receipt, Steering
from steergraph.engine.wire.steering_field import to_spec
from steergraph.engine.wire.structured import response_format, structured_outputs

OPENAI_SAMPLING = frozenset({"temperature", "top_p", "top_k", "max_new_tokens"})
VLLM_SAMPLING = {"repetition_penalty": "repetition_penalty", "min_p": "min_p", "min_new_tokens": "min_tokens"}


def steering_field(steering: Steering, library: Named, server: Server) -> dict[str, Any]:
    """The `steering` field. Raises SteeringError where the server, the vectors or the shape can't do it."""
    sources = {component.vector: server.source(look_up(library, component.vector)) for component in steering.components}
    check_steering(steering, library, server.info)
    return to_spec(steering, library, sources.__getitem__)


def generation(request: Request, library: Named, server: Server) -> tuple[str, dict[str, Any]]:
    """(endpoint, body) of a streamed generation. Raises SteeringError where it can't be asked for."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": server.model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if server.extends:
        # vLLM fills what is left out from the model's generation_config; here what is not asked for is off.
        body |= {"top_k": sampling.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
        body["stream_options"]["continuous_usage_stats"] = True
    elif sampling.top_k:
        body["top_k"] = sampling.top_k
    body |= _beyond(request, server)
    if request.steering is not None:
        body["steering"] = steering_field(request.steering, library, server)
        if request.suspend and server.kind != "steergraph":
            raise SteeringError(
                f"{server.model}: this server can't suspend steering inside machine-read spans; set steering off for "
                "this request"
            )
        if request.suspend:
            body["steering_suspend"] = [span.model_dump() for span in request.suspend]
    if request.messages is None:
        return "completions", body | {"prompt": list(request.token_ids or ())}
    body["messages"] = [message.model_dump() for message in request.messages]
    if server.extends or request.enable_thinking:
        body["chat_template_kwargs"] = {"enable_thinking": request.enable_thinking}
    return "chat/completions", body


def _beyond(request: Request, server: Server) -> dict[str, Any]:
    """What is asked for beyond OpenAI's own fields. Raises RemoteError for what the server does not know, rather than
    leave it out."""
    sampling = request.sampling
    beyond: dict[str, Any] = {}
    for name, field in type(sampling).model_fields.items():
        value = getattr(sampling, name)
        if name in OPENAI_SAMPLING or value == field.default:
            continue
        if name not in VLLM_SAMPLING or not server.extends:
            raise RemoteError(f"{server.model}: this server can't be asked for {name}; leave it out")
        beyond[VLLM_SAMPLING[name]] = value
    if request.grammar is not None:
        if missing := sorted(request.grammar.kinds - server.grammars):
            raise RemoteError(
                f"{server.model}: this server can't be asked for a grammar with {missing[0]}; "
                "use a model in this process"
            )
        beyond |= (structured_outputs if server.extends else response_format)(request.grammar)
    if request.measure_kl:
        raise RemoteError(f"{server.model}: a server can't measure the KL spent; use a model in this process")
    return beyond


def receipt_of(steering: Steering, library: Named, server: Server, usage: Usage, written: Receipt | None) -> Receipt:
    """The receipt for what was asked.

    Where the server's own engine wrote one, and its directions are the same as ours, that is the receipt. Otherwise
    it is a claim: the components as they were sent, and as many positions as the usage says went through the model. A
    relative dose is 0 where a vector does not know the residual's median norm.
    """
    applied = plan_steering(steering, library, server.info, lambda layer: 0.0).applied
    if written is not None:
        same = all(server.holds(look_up(library, component.vector), component.layer) for component in applied)
        return written.model_copy(update={"components": applied, "claimed": not same})
    everywhere = any(component.positions in ("all", (0, None)) for component in applied)
    prompt, end = usage.prompt_tokens, max(usage.prompt_tokens, usage.prompt_tokens + usage.completion_tokens - 1)
    start = 0 if everywhere else max(0, prompt - 1)
    return Receipt(
        components=applied,
        prompt_positions=prompt - start,
        generated_positions=usage.completion_tokens,
        steered_ranges=((start, end),) if end > start else (),
        claimed=True,
    )
