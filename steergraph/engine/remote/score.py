"""Log-likelihoods from a server that gives its prompt's own: vLLM, EasySteer and `steergraph serve`.

Knows `prompt_logprobs`. The continuation is sent as the end of the prompt, so `generated` becomes a window of it.
"""

from typing import Any

from steergraph.base.errors import InputError
from steergraph.engine.protocol import Named, ScoreRequest, Scores, Usage
from steergraph.engine.remote.address import RemoteError
from steergraph.engine.remote.bodies import receipt_of, steering_field
from steergraph.engine.remote.client import Client, shaped
from steergraph.engine.remote.server import Server
from steergraph.engine.remote.tokens import Tokens
from steergraph.engine.steering.directions import SteeringError
from steergraph.engine.wire.replies import Reply


def check_scoring(request: ScoreRequest, library: Named, server: Server) -> None:
    """Raise InputError where the request can't be scored there."""
    if (request.messages is None) == (request.token_ids is None):
        raise InputError("a request to score has either messages or token_ids")
    if not request.continuation:
        raise InputError("a continuation to score needs at least one token")
    if not server.extends:
        raise RemoteError(
            f"{server.model}: this server gives no log-probabilities of a prompt (prompt_logprobs), so it can't score; "
            "use vLLM, EasySteer, steergraph serve or a model in this process"
        )
    if request.steering is not None:
        steering_field(request.steering, library, server)


async def score(client: Client, server: Server, tokens: Tokens, library: Named, request: ScoreRequest) -> Scores:
    """Scores of one request that `check_scoring` let through. Raises RemoteError."""
    if request.messages is not None:
        prompt = await tokens.prompt_ids(request.messages)
    else:
        prompt = list(request.token_ids or ())
    text = request.continuation
    continuation = await tokens.text_ids(text) if isinstance(text, str) else list(text)
    if not continuation:
        raise InputError("a continuation to score needs at least one token")
    body: dict[str, Any] = {
        "model": server.model,
        "prompt": [*prompt, *continuation],
        "max_tokens": 0 if server.kind == "steergraph" else 1,  # vLLM insists on one
        "temperature": 0.0,
        # Beside each token's own, vLLM then gives the likeliest one's.
        "prompt_logprobs": 0 if server.kind == "steergraph" else 1,
    }
    if request.steering is not None:
        body["steering"] = _within_prompt(steering_field(request.steering, library, server), len(prompt))
    reply = shaped(Reply, await client.json("/completions", body), client.where)
    if not reply.choices or reply.choices[0].prompt_logprobs is None:
        raise RemoteError(f"{client.where}: no prompt_logprobs in its answer")
    try:
        entries = reply.choices[0].prompt_logprobs[len(prompt) :]
        logprobs = tuple((entry or {})[token].logprob for entry, token in zip(entries, continuation, strict=True))
        best = tuple(max(one.logprob for one in (entry or {}).values()) for entry in entries)
    except (KeyError, ValueError) as error:
        raise RemoteError(f"{client.where}: its prompt_logprobs are not those of the prompt that was sent") from error
    receipt = None
    if request.steering is not None:
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=len(continuation), seconds=0.0)
        receipt = receipt_of(request.steering, library, server, usage, None)
    return Scores(
        logprobs=tuple(min(0.0, logprob) for logprob in logprobs),
        token_ids=tuple(continuation),
        receipt=receipt,
        likeliest=tuple(min(0.0, logprob) for logprob in best) if body["prompt_logprobs"] else (),
    )


def _within_prompt(spec: dict[str, Any], prompt_tokens: int) -> dict[str, Any]:
    """The same steering where the generated tokens are part of the prompt."""
    for entry in spec["vectors"]:
        apply = entry["apply"]
        if apply.get("prompt") == "all":
            continue
        if apply.get("prompt_positions") != [-1]:
            raise SteeringError("a range of tokens can't be scored on a server; steer all or the generated ones")
        entry["apply"] = {"prompt_window": [prompt_tokens - 1, None], "generation": "all"}
    return spec
