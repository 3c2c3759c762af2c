"""Where a model's files are, and whether they are safe and whole: the embedded one, by a short name, a folder, a GGUF
file, the hub.

Knows folders, the hub and safetensors files. Knows nothing of networks or tokenizers. Only safetensors weights pass,
and GGUF files that are named themselves.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from steergraph.base.errors import InputError
from steergraph.engine.loading.gguf.config import MODEL_TYPES
from steergraph.engine.loading.gguf.reader import read_gguf
from steergraph.engine.loading.named.catalog import catalog, missing, named, place_of

POCKET = "pocket"
EMBEDDED = (POCKET, "pocket-base")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
GGUF = ".gguf"
HUB_FILES = ["*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja"]
WHOLE_FILE_BYTES = 256 * 2**20


def find_model(name: str) -> tuple[str, Path, str]:
    """(name to show, folder or GGUF file, revision or "" where the weights themselves tell) of `name`."""
    if name in EMBEDDED:
        return name, _pocket_folder(name), ""
    if name in catalog():
        return _named_model(name)
    if not name.strip():
        raise InputError(f"no model named; give a folder, a {GGUF} file, a hub id (owner/name) or {POCKET!r}")
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() == GGUF:
            return path.stem, path, ""
        raise InputError(
            f"{name}: a file; give the folder that holds config.json, *.safetensors and the tokenizer, or a {GGUF} file"
        )
    if path.is_dir():
        return path.resolve().name, path, ""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise InputError(
            f"{name!r}: no such model folder; give a folder, a {GGUF} file, a hub id (owner/name) or {POCKET!r}"
        )
    return download(name)


def local_path(name: str) -> Path | None:
    """The folder or file of this machine that `name` means, or None: short names go before folders that are called
    alike. It may be no model."""
    path = Path(name).expanduser()
    known = not name.strip() or name in EMBEDDED or name in catalog()
    return path if not known and path.exists() else None


def _pocket_folder(name: str) -> Path:
    try:
        from steergraph.pocket import weights_path
    except ImportError as error:
        raise InputError(f"{name}: the embedded model is not part of this installation; name another model") from error
    return weights_path(name)


def _named_model(name: str) -> tuple[str, Path, str]:
    entry = named(name)
    if (place := place_of(name)) is not None:
        return name, place.path, ""
    if entry.package or not entry.hub:  # not the hub's where the catalog means a quantized file: another model
        raise missing(name)
    try:
        return download(entry.hub, entry.revision)
    except InputError as error:
        raise InputError(f"{name}: no {name}{GGUF} in STEERGRAPH_MODELS or the cache; {error}") from error


def hub_folder(name: str, revision: str = "main") -> Path | None:
    """The hub's model `name` in the hub's own cache, or None. Nothing is downloaded."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES, local_files_only=True))
    except Exception:  # as below: its errors differ between its versions
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def download(name: str, revision: str = "main") -> tuple[str, Path, str]:
    """(`name`, its folder in the hub's cache, the commit) of a model of the hub. Raises InputError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except HFValidationError as error:
        raise InputError(f"{name!r}: neither a folder nor a hub id (owner/name)") from error
    except GatedRepoError as error:
        raise InputError(f"{name}: the hub asks you to accept this model's terms and to log in first") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: no such folder here, and no such model on the hub (or it is private)") from error
    except Exception as error:  # the hub client raises its transport's errors, which differ between its versions
        raise InputError(
            f"{name}: no such folder here, and the model hub can't be reached ({type(error).__name__}); "
            f"check the name and the network, or use {POCKET!r}"
        ) from error
    return name, folder, folder.name


def config_at_hand(name: str) -> tuple[str, dict[str, Any]]:
    """(name to show, config.json) of the model `name`, or an empty config where it is not on this machine. Nothing is
    downloaded, no weights are needed."""
    if name in catalog():
        entry, place = named(name), place_of(name)
        if place is None:
            return config_at_hand(entry.hub) if entry.hub else (name, {})
        return name, _config_of_gguf(place.path, name)
    if name.lower().endswith(GGUF) and Path(name).expanduser().is_file():
        return Path(name).stem, _config_of_gguf(Path(name).expanduser(), name)
    if name in EMBEDDED or Path(name).expanduser().is_dir():
        label, folder, _ = find_model(name)
        file: Any = folder / "config.json"
    else:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            label, file = name, try_to_load_from_cache(name, "config.json")
        except HFValidationError:  # a name for people, as "my model"
            return name, {}
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8")) if isinstance(file, str | Path) else {}
    except (OSError, ValueError):
        return label, {}
    return label, config if isinstance(config, dict) else {}


def _config_of_gguf(path: Path, label: str) -> dict[str, Any]:
    """What config.json would say, as far as a file's metadata have it without a model being made."""
    file = read_gguf(path, label)
    known = {"hidden_size": file.of_model("embedding_length"), "num_hidden_layers": file.of_model("block_count")}
    return {**known, "model_type": MODEL_TYPES.get(file.architecture, file.architecture)}


def weight_files(folder: Path, label: str) -> list[Path]:
    """The safetensors files of a model folder, each checked to be whole."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{label}: no config.json in this folder, so it is not a model; give a Hugging Face model folder"
        )
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    elif index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"{label}: model.safetensors.index.json can't be read; download the model again"
            ) from error
        if any(Path(shard).name != shard for shard in shards):
            raise InputError(f"{label}: model.safetensors.index.json names files outside the folder")
        files = sorted(folder / shard for shard in shards)
    else:
        raise InputError(_no_weights(folder, label))
    for file in files:
        _check_safetensors(file, label)
    return files


def _no_weights(folder: Path, label: str) -> str:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        return (
            f"{label}: only pickle weights ({pickles[0]}), which can run code and are refused; convert them where you "
            "trust them: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)"
        )
    quantized = sorted(path.name for path in folder.glob(f"*{GGUF}"))
    if quantized:
        return f"{label}: a folder with GGUF weights; name the file in it ({quantized[0]})"
    return f"{label}: a model folder without weights (no model.safetensors); download them, or name another model"


def _check_safetensors(file: Path, label: str) -> None:
    if not file.is_file():
        raise InputError(f"{label}: {file.name} is missing; download the model again")
    try:
        with safe_open(str(file), framework="pt") as handle:
            handle.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{label}: {file.name} is truncated or not a safetensors file; download it again") from error


def fingerprint(files: list[Path]) -> str:
    """SHA-256 of the weights, first 16 hex characters. Of a large file its size, its head and 64 even samples count."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as handle:
            if size <= WHOLE_FILE_BYTES:
                while block := handle.read(2**20):
                    digest.update(block)
            else:
                digest.update(handle.read(2**20))
                for sample in range(64):
                    handle.seek(size * sample // 64)
                    digest.update(handle.read(2**16))
    return digest.hexdigest()[:16]
