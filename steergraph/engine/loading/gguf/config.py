"""A GGUF file's hyperparameters as transformers' configuration of the same network.

Knows the families that load from GGUF. Knows nothing of weights or tokenizers. What would change the arithmetic and is
not understood is refused; any other key that goes unused is said.
"""

import logging
from typing import Any

from steergraph.base.errors import InputError
from steergraph.engine.loading.gguf.reader import GGUFFile

log = logging.getLogger(__name__)

MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
}
"""transformers' name of each architecture that is loaded."""
FIELDS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
"""What every family has, by transformers' name."""
OPTIONAL = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
USED = {
    *FIELDS,
    *OPTIONAL,
    *("attention.key_length", "attention.value_length", "rope.dimension_count", "rope.scaling.type"),
    *("rope.scaling.finetuned", "rope.scaling.original_context_length", "rope.scaling.factor"),
}
NEED_HEAD_DIM = ("llama", "qwen3", "gemma2", "gemma3")
"""Families whose heads may be of any width; elsewhere it is the model's, divided by the heads."""
ROPE_FACTORS = "rope_freqs.weight"


def config_of(file: GGUFFile, label: str) -> Any:
    """transformers' configuration for the model in `file`. Raises InputError."""
    family = file.architecture
    if family not in MODEL_TYPES:
        raise InputError(
            f"{label}: a GGUF file of {family[:40]!r}; read are {', '.join(MODEL_TYPES)}; "
            "use the model's safetensors edition"
        )
    missing = [key for key in FIELDS if not isinstance(file.of_model(key), int | float)]
    if missing:
        raise InputError(f"{label}: its {family}.{missing[0]} is missing or no number; get the file again")
    if not 0 < file.of_model("block_count") <= len(file.tensors):
        raise InputError(f"{label}: it says {file.of_model('block_count')} layers and has {len(file.tensors)} tensors")
    _refuse_scaled_rope(file, label)
    from transformers import AutoConfig

    fields: dict[str, Any] = {name: file.of_model(key) for key, name in FIELDS.items()}
    fields |= {name: value for key, name in OPTIONAL.items() if (value := file.of_model(key)) is not None}
    width = _head_width(file, label)
    if family in NEED_HEAD_DIM:
        fields["head_dim"] = width
    elif width * fields["num_attention_heads"] != fields["hidden_size"]:
        raise InputError(f"{label}: heads of {width} do not fit {family}; use the model's safetensors edition")
    if family.startswith("gemma"):
        fields["query_pre_attn_scalar"] = _gemma_scale(file, width)
    if family == "llama":
        fields["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    fields.setdefault("vocab_size", len(file.of_tokenizer("tokens") or ()))
    fields["tie_word_embeddings"] = "output.weight" not in file.tensors
    for token in ("bos", "eos"):
        fields[f"{token}_token_id"] = file.of_tokenizer(f"{token}_token_id")
    fields["pad_token_id"] = file.of_tokenizer("padding_token_id")
    unused = sorted(
        key for key in file.values if key.startswith(f"{family}.") and key.removeprefix(f"{family}.") not in USED
    )
    if unused:
        log.warning("%s: not used of what its file says: %s", label, ", ".join(unused))
    try:
        return AutoConfig.for_model(MODEL_TYPES[family], **fields)
    except Exception as error:  # transformers validates fields in ways of its own
        raise InputError(f"{label}: its hyperparameters are no {family} model's ({error})") from error


def _refuse_scaled_rope(file: GGUFFile, label: str) -> None:
    scaled = file.of_model("rope.scaling.type") not in (None, "none")
    scaled |= any(name in file.tensors for name in (ROPE_FACTORS, "rope_factors_long.weight"))
    if scaled:
        raise InputError(
            f"{label}: its rotary positions are scaled for a longer window, which is not read from GGUF; "
            "use the model's safetensors edition"
        )


def _head_width(file: GGUFFile, label: str) -> int:
    default = file.of_model("embedding_length") // max(file.of_model("attention.head_count"), 1)
    width = file.of_model("attention.key_length", default)
    for key in ("attention.value_length", "rope.dimension_count"):
        if file.of_model(key, width) != width:
            raise InputError(
                f"{label}: its {key} is {file.of_model(key)} where heads are {width} wide, which is not read from "
                "GGUF; use the model's safetensors edition"
            )
    return int(width)


def _gemma_scale(file: GGUFFile, width: int) -> int:
    """What attention divides by, squared; the files do not say it. It is the heads' width but in the largest models."""
    if file.of_model("block_count") in (46, 62):
        return int(file.of_model("embedding_length") // file.of_model("attention.head_count"))
    return width
