"""Pocket's architecture and a forward pass of it that trains fast on two cores.

Knows Qwen3's equations. `hidden_states` uses a Qwen3ForCausalLM's own parameters and computes what its forward computes
(a test holds them equal); it is about a third faster than transformers' eager path in bfloat16 on a processor.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

SIZES: dict[str, dict[str, int]] = {
    "pocket": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 12, "num_attention_heads": 4},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}


def new_model(size: str, vocab_size: int, pad: int, end: int, window: int, seed: int) -> Any:
    """A freshly initialised Qwen3ForCausalLM of `size` ("pocket" or "tiny"), in float32."""
    torch.manual_seed(seed)
    heads = SIZES[size]["num_attention_heads"]
    config = Qwen3Config(
        vocab_size=vocab_size,
        num_key_value_heads=heads // 2,
        head_dim=32 if size == "pocket" else 16,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=end,
        bos_token_id=None,
        **SIZES[size],
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                scale = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                parameter.normal_(0, scale * parameter.shape[1] ** -0.5)
    return model


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def hidden_states(model: Any, ids: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Final hidden states [batch, length, width] of token `ids` [batch, length], padding on the right, in `dtype`."""
    config, body = model.config, model.model
    batch, length = ids.shape
    dim, heads, kv = config.head_dim, config.num_attention_heads, config.num_key_value_heads
    cos, sin = body.rotary_emb(
        torch.empty(0, dtype=dtype, device=ids.device), torch.arange(length, device=ids.device)[None]
    )
    cos, sin = cos[:, None], sin[:, None]
    mask = torch.full((length, length), float("-inf"), dtype=dtype, device=ids.device).triu(1)
    x = body.embed_tokens(ids).to(dtype)
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        y = _rms(x, layer.input_layernorm.weight, config.rms_norm_eps)
        projections = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        qkv = F.linear(y, torch.cat(projections).to(dtype)).view(batch, length, heads + 2 * kv, dim)
        q = _rms(qkv[:, :, :heads], attention.q_norm.weight, config.rms_norm_eps).transpose(1, 2)
        k = _rms(qkv[:, :, heads : heads + kv], attention.k_norm.weight, config.rms_norm_eps).transpose(1, 2)
        k = _rotate(k, cos, sin).repeat_interleave(heads // kv, 1)
        v = qkv[:, :, heads + kv :].transpose(1, 2).repeat_interleave(heads // kv, 1)
        scores = torch.matmul(_rotate(q, cos, sin) * dim**-0.5, k.transpose(-1, -2)) + mask
        mixed = torch.matmul(scores.softmax(-1), v).transpose(1, 2).reshape(batch, length, heads * dim)
        x = x + F.linear(mixed, attention.o_proj.weight.to(dtype))
        y = _rms(x, layer.post_attention_layernorm.weight, config.rms_norm_eps)
        gate, up = F.linear(y, torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)).to(dtype)).chunk(2, -1)
        x = x + F.linear(F.silu(gate) * up, mlp.down_proj.weight.to(dtype))
    return _rms(x, body.norm.weight, config.rms_norm_eps)
