"""A GGUF file as a folder of safetensors in the user's cache, made once: it loads like any other model's from then on.

Knows files, locks and which tensor is which. Knows nothing of steering. transformers knows how each family's tensors
are laid out in GGUF; here they are taken one by one, so that memory holds the model once.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steergraph.base.errors import InputError, one_line
from steergraph.base.files import CannotWrite, held, make_folder, read_record, write_whole
from steergraph.base.folders import cache_folder
from steergraph.engine.loading.gguf.config import config_of
from steergraph.engine.loading.gguf.reader import BoundedReader, GGUFFile, read_gguf
from steergraph.engine.loading.gguf.tokenizer import end_ids, tokenizer_of
from steergraph.engine.loading.hashes import sha256_of

EDITION = 1
"""Raised when a file would be converted in another way: what the cache holds is then made anew."""
RECORD = "gguf.json"


@dataclass(frozen=True)
class Converted:
    folder: Path
    sha256: str
    """Of the GGUF file."""
    quantization: str
    """How the file has its weights, and as what they are loaded: "Q4_1 as float32"."""


def converted(path: Path, label: str, dtype: torch.dtype, cache_dir: Path | None = None) -> Converted:
    """The folder that was made of the GGUF file at `path`, or is made now; of two who ask at once the second waits.

    Raises InputError: the file is damaged, or of a kind that is not read. CannotWrite: the cache can't hold it.
    """
    name = str(dtype).removeprefix("torch.")
    digest = sha256_of(path, cache_dir)
    root = make_folder(cache_folder(cache_dir) / "gguf")
    folder = root / f"{digest}-{name}-{EDITION}"
    with held(root / f"{folder.name}.lock", patience_s=None):
        record = read_record(folder / RECORD)
        if record is None:
            _convert(read_gguf(path, label), folder, label, dtype)
            record = read_record(folder / RECORD) or {}
    return Converted(folder, digest, f"{record.get('quantization', '')} as {name}")


def _convert(file: GGUFFile, folder: Path, label: str, dtype: torch.dtype) -> None:
    """Make `folder`, whole or not at all. Whoever calls holds its lock, so a draft that is there is a killed one's."""
    config = config_of(file, label)
    tokenizer = tokenizer_of(file, label)
    draft = folder.with_name(f".{folder.name}.draft")
    needed = file.parameters * dtype.itemsize
    try:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        if (free := shutil.disk_usage(folder.parent).free) < needed:
            raise CannotWrite(
                f"{label}: {needed / 1e9:.1f} GB are needed in {folder.parent} and {free / 1e9:.1f} are free; "
                "make room, or name another place (STEERGRAPH_CACHE)"
            )
        draft.mkdir()
        tensors, architecture = _tensors(file, config, label, dtype)
        _save(draft, tensors, config, tokenizer, architecture, end_ids(file), dtype)
        record = {"quantization": file.quantization, "shares": file.shares, "architecture": file.architecture}
        write_whole(draft / RECORD, json.dumps(record, indent=2) + "\n")
        draft.replace(folder)
    except OSError as error:
        raise CannotWrite(f"{label}: can't be converted into {folder.parent}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _tensors(file: GGUFFile, config: Any, label: str, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], str]:
    """Every weight by its name in transformers' network, and that network's name."""
    from gguf import dequantize
    from transformers import AutoModelForCausalLM
    from transformers import modeling_gguf_pytorch_utils as layouts

    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    processor = layouts.TENSOR_PROCESSORS.get(file.architecture, layouts.TensorProcessor)(config=config.to_dict())
    names = _names(file, config.num_hidden_layers, expected)
    made: dict[str, torch.Tensor] = {}
    for tensor in BoundedReader(file.path).tensors:
        name = names.get(tensor.name, "")
        if name not in expected:
            raise InputError(f"{label}: a tensor {tensor.name[:60]!r} that its architecture has no place for")
        try:
            weights = processor.process(weights=dequantize(tensor.data, tensor.tensor_type), name=tensor.name).weights
        except NotImplementedError as error:
            raise InputError(
                f"{label}: {tensor.name} is quantized as {tensor.tensor_type.name}, which can't be read; "
                "get the file in another quantization"
            ) from error
        if tuple(weights.shape) != expected[name]:
            raise InputError(
                f"{label}: {tensor.name} is {list(weights.shape)}, where its hyperparameters say {list(expected[name])}"
            )
        made[name] = torch.tensor(weights, dtype=dtype)
    missing = sorted(expected.keys() - made.keys())
    if missing:
        raise InputError(f"{label}: {len(missing)} weights are missing (such as {missing[0]}); get the file again")
    return made, type(network).__name__


def _names(file: GGUFFile, layers: int, expected: Iterable[str]) -> dict[str, str]:
    """transformers' name of each tensor by GGUF's."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    family = next(number for number, name in MODEL_ARCH_NAMES.items() if name == file.architecture)
    table = get_tensor_name_map(family, layers)
    return {table.get_name(name, try_suffixes=(".weight", ".bias")) or "": name for name in expected}


def _save(
    draft: Path,
    tensors: dict[str, torch.Tensor],
    config: Any,
    tokenizer: Any,
    architecture: str,
    ends: list[int],
    dtype: torch.dtype,
) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    try:
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # what the disk said is only in its text
        raise OSError(one_line(str(error), 150)) from error
    config.architectures = [architecture]
    config.dtype = dtype
    config.save_pretrained(draft)
    generation = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=ends or None, pad_token_id=config.pad_token_id
    )
    generation.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
