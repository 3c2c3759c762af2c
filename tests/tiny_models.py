"""Random-weight models of real architectures, small enough for a test, saved to a folder with a real tokenizer.

`tiny_model("qwen3")` gives a folder that `load_model` reads like any other. Folders are made once per process.
"""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

LAYERS, HIDDEN, WINDOW, SLIDING = 4, 32, 256, 6
ARCHITECTURES = ("qwen3", "llama", "gemma3", "phi3", "lfm2", "mistral")
OTHER_LAYOUTS = ("gpt2", "neox", "bloom")

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)

CORPUS = (
    "def total(items): return sum(item.price for item in items)",
    "The patch changes one line and the failing test passes.",
    "Read the issue, find the cause, name the file; é ü ß 東京 🙂",
    "<<<<<<< SEARCH\n======= \n>>>>>>> REPLACE",
    "for index, row in enumerate(rows): print(index, row)",
)


@cache
def tiny_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens with begin, end, turn and thinking tokens; no chat template if not `chat`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=392,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|pad|>", "<|bos|>", "<|end|>", "<|start|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=WINDOW,
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    fast.add_tokens(["<think>", "</think>"])
    if chat:
        fast.chat_template = TEMPLATE
    return fast


def tiny_network(architecture: str, *, seed: int = 0, hidden: int = HIDDEN, vocabulary: int | None = None) -> Any:
    """The random-weight model alone, in float32 and evaluation mode."""
    size: dict[str, Any] = {
        "vocab_size": vocabulary or len(tiny_tokenizer()),
        "hidden_size": hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": WINDOW,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    llama_like = {**size, "num_key_value_heads": 2, "intermediate_size": 2 * hidden}
    builders: dict[str, Callable[[], Any]] = {
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**llama_like, head_dim=8)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**llama_like)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**llama_like)),
        "gemma3": lambda: Gemma3ForCausalLM(
            Gemma3TextConfig(
                **llama_like,
                head_dim=8,
                sliding_window=SLIDING,
                layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
            )
        ),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**llama_like, head_dim=8, sliding_window=SLIDING)),
        "phi3": lambda: Phi3ForCausalLM(Phi3Config(**llama_like)),
        "lfm2": lambda: Lfm2ForCausalLM(
            Lfm2Config(
                **llama_like,
                block_auto_adjust_ff_dim=False,
                layer_types=["conv", "full_attention"] * (LAYERS // 2),
            )
        ),
        "bloom": lambda: BloomForCausalLM(BloomConfig(**size)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**size)),
        "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**size, intermediate_size=2 * hidden)),
    }
    torch.manual_seed(seed)
    return builders[architecture]().eval()


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="tiny-models-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@cache
def tiny_model(architecture: str, *, chat: bool = True, seed: int = 0) -> Path:
    """A folder with the model's safetensors, config and tokenizer. Treat it as read-only: others use the same."""
    folder = _root() / f"tiny-{architecture}{'' if chat else '-base'}{f'-{seed}' if seed else ''}"
    tiny_network(architecture, seed=seed).save_pretrained(folder)
    tiny_tokenizer(chat).save_pretrained(folder)
    return folder
