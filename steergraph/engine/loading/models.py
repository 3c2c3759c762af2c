"""A model by name as one frozen record: the network, its tokenizer, and what the engine must know of both.

Knows transformers' models and tokenizers. Knows nothing of steering or generation, and leaves files to `weights`. No
code that comes with a model is run.
"""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from steergraph.base.errors import InputError
from steergraph.engine.loading.gguf.convert import converted
from steergraph.engine.loading.half import pack_half
from steergraph.engine.loading.layers import decoder_layers, text_config
from steergraph.engine.loading.products import use_onednn
from steergraph.engine.loading.quiet import quiet
from steergraph.engine.loading.template import probe
from steergraph.engine.loading.weight_types import held_as
from steergraph.engine.loading.weights import find_model, fingerprint, weight_files
from steergraph.engine.protocol import ModelInfo, Sampling

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
WINDOW_WITHOUT_LIMIT = 4096


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, with what the rest of the engine needs to know of it."""

    model: Any
    tokenizer: Any
    info: ModelInfo
    device: torch.device
    """Where the input ids go (the embedding's device)."""
    pad_id: int
    """Fills the left of a shorter row; always masked, so any id of the vocabulary does."""
    eos_ids: frozenset[int]
    """Tokens that end an answer."""
    defaults: Sampling
    """The sampling its makers recommend, greedy where they say nothing."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    """Held for as long as somebody steers the model or reads its activations on the model."""


def load_model(name: str, device: str = "auto", weights: str = "auto") -> LoadedModel:
    """Load "pocket", a folder, a GGUF file or a hub id.

    `device`: "auto" (a GPU where there is one) or a torch device. `weights`: how they are held (weight_types.py).

    Raises InputError (one line) where there is no such model, no safetensors or GGUF weights, or no tokenizer.
    """
    label, place, revision = find_model(name)
    where, origin = _device(device), {}
    kind = held_as(weights, where, place, label)
    if place.is_file():
        made = converted(place, label, kind or torch.bfloat16)
        place, revision = made.folder, made.sha256[:16]
        origin = {"quantization": made.quantization, "file_sha256": made.sha256}
    files = weight_files(place, label)
    tokenizer = _load_tokenizer(place, label)
    model = _load_weights(place, label, where, kind or "auto")
    if kind is torch.float16 and where.type == "cpu":
        pack_half(model)
        origin = origin or {"quantization": "as float16"}
    use_onednn(model)
    return wrap_model(model, tokenizer, name=label, revision=revision or fingerprint(files), **origin)


def wrap_model(
    model: Any, tokenizer: Any, *, name: str, revision: str = "", quantization: str = "", file_sha256: str = ""
) -> LoadedModel:
    """A LoadedModel around a model and tokenizer that are already in memory. `model` is put in evaluation mode."""
    model.eval()
    config = text_config(model)
    info = ModelInfo(
        name=name,
        revision=revision,
        architecture=type(model).__name__,
        n_layers=len(decoder_layers(model)),
        hidden_size=config.hidden_size,
        window=_window(config, tokenizer),
        kind="instruct" if getattr(tokenizer, "chat_template", None) else "base",
        quantization=quantization,
        file_sha256=file_sha256,
    )
    eos = _eos_ids(model, tokenizer)
    pad = tokenizer.pad_token_id
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        info=info,
        device=model.get_input_embeddings().weight.device,
        pad_id=pad if pad is not None else min(eos, default=0),
        eos_ids=eos,
        defaults=_sampling(getattr(model, "generation_config", None)),
    )


def _load_tokenizer(folder: Path, label: str) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"{label}: no tokenizer in this folder (tokenizer.json); copy it from where the model came from"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a broken file surfaces as whatever its parser raises
        named = _named_tokenizer(folder)
        if named is None:
            raise InputError(f"{label}: its tokenizer can't be loaded ({_one_line(error)})") from error
        return named


def _named_tokenizer(folder: Path) -> Any:
    """The tokenizer of the installed class that tokenizer_config.json names, or None. AutoTokenizer goes by the model's
    architecture first, which fails where a model was given another family's tokenizer."""
    import transformers

    try:
        name = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["tokenizer_class"]
        return getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    except Exception:  # as above; the caller has AutoTokenizer's own words
        return None


def _load_weights(folder: Path, label: str, device: torch.device, dtype: torch.dtype | str) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # unknown architecture, shapes that differ, a broken config: all the folder's fault
        raise InputError(f"{label}: can't be loaded as a causal language model ({_one_line(error)})") from error
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise InputError(
            f"{label}: {len(missing)} weights are missing (such as {missing[0]}); download the model again"
        )
    return model.to(device)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:157] + "..." if len(text) > 160 else text or type(error).__name__


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r}: not a torch device; use auto, cpu or cuda") from error


def _window(config: Any, tokenizer: Any) -> int:
    limits = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    return min((int(limit) for limit in limits if limit and 0 < limit < 10**9), default=WINDOW_WITHOUT_LIMIT)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for value in (getattr(getattr(model, "generation_config", None), "eos_token_id", None), tokenizer.eos_token_id):
        found.update([value] if isinstance(value, int) else value or ())
    return frozenset(found) | probe(tokenizer).end_ids


def _sampling(config: Any) -> Sampling:
    if not getattr(config, "do_sample", False):
        return Sampling()
    temperature, top_p, top_k = (getattr(config, name, None) for name in ("temperature", "top_p", "top_k"))
    return Sampling(
        temperature=1.0 if temperature is None else temperature, top_p=1.0 if top_p is None else top_p, top_k=top_k or 0
    )
