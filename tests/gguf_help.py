"""Tiny models as GGUF files: the networks of `tiny_models`, written as llama.cpp's converter lays them out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tiny_models import WINDOW, tiny_network, tiny_tokenizer

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3", "phi3")


def tiny_gguf(
    path: Path,
    family: str = "llama",
    *,
    quantized: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    fields: Mapping[str, Any] = {},
    without: tuple[str, ...] = (),
    extra: Mapping[str, Any] = {},
    network: Any = None,
) -> Path:
    """Write `tiny_network(family)` with `tiny_tokenizer()` to `path`. `fields` go over the file's own (None: left out),
    the tensors in `without` are not written, those in `extra` are."""
    network = network or network_for_gguf(family)
    config = network.config
    writer = gguf.GGUFWriter(path, family)
    own = _hyperparameters(config, family) | tokenizer_fields() | {"general.file_type": 0}
    for key, value in {**own, **fields}.items():
        _add(writer, key, value)
    for name, weights in {**_tensors(network, family), **extra}.items():
        if name in without:
            continue
        if weights.ndim == 2 and quantized != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, gguf.quantize(weights, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(name, np.ascontiguousarray(weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def network_for_gguf(family: str) -> Any:
    """`tiny_network(family)`, of Gemma with the scale and the order of layers that every model of it has."""
    network = tiny_network(family)
    if family != "gemma3":
        return network
    known = network.config.to_dict() | {"query_pre_attn_scalar": 8, "num_hidden_layers": 6, "layer_types": None}
    torch.manual_seed(0)
    return type(network)(type(network.config)(**known)).eval()


def tokenizer_fields() -> dict[str, Any]:
    """The fields of `tiny_tokenizer()`."""
    tokenizer = tiny_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["id"]: token["special"] for token in state["added_tokens"]}
    tokens = [text for text, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if added.get(at) else 4 if at in added else 1 for at in range(len(tokens))],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in state["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": tokenizer.bos_token_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def _hyperparameters(config: Any, family: str) -> dict[str, Any]:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    found = {
        "block_count": config.num_hidden_layers,
        "context_length": WINDOW,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": width,
    }
    if family == "gemma3":
        found["attention.sliding_window"] = config.sliding_window
    return {f"{family}.{key}": value for key, value in found.items()}


def _tensors(network: Any, family: str) -> dict[str, np.ndarray]:
    config = network.config
    number = next(at for at, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    found = {}
    for name, tensor in network.state_dict().items():
        weights = tensor.detach().float().numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            shape = heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]
            weights = weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)
        if family == "gemma3" and name.endswith("norm.weight"):
            weights = weights + 1
        found[names.get_name(name, try_suffixes=(".weight", ".bias")) or name] = weights
    return found


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
