"""Loading: what is found out about a model, and one clear line for everything that can't be loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model, tiny_network, tiny_tokenizer

from steergraph.base.errors import InputError
from steergraph.engine.loading.layers import decoder_layers
from steergraph.engine.loading.models import load_model, wrap_model
from steergraph.engine.steering.directions import SteeringError


def test_what_is_known_of_a_model() -> None:
    folder = tiny_model("qwen3")
    loaded = load_model(str(folder))
    info = loaded.info
    assert (info.name, info.architecture, info.kind) == ("tiny-qwen3", "Qwen3ForCausalLM", "instruct")
    assert str(folder.parent) not in info.model_dump_json()
    assert len(info.revision) == 16 and info.revision == load_model(str(folder)).info.revision
    assert info.revision != load_model(str(tiny_model("qwen3", seed=1))).info.revision
    assert loaded.eos_ids == {2} and loaded.pad_id == 0
    assert loaded.model.dtype == torch.float32 and not loaded.model.training
    assert load_model(str(tiny_model("qwen3", chat=False))).info.kind == "base"
    assert load_model(str(folder), weights="bfloat16").model.dtype == torch.bfloat16


def test_a_tokenizer_without_padding_changes_nothing_that_is_generated(tmp_path: Path) -> None:
    from engine_help import TEXTS, ask

    from steergraph.engine.local import LocalEngine

    folder = shutil.copytree(tiny_model("llama"), tmp_path / "copy")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    bare = load_model(str(folder))
    assert bare.tokenizer.pad_token_id is None and bare.pad_id == 2
    requests = [ask(text) for text in TEXTS]
    with LocalEngine(bare) as one, LocalEngine(str(tiny_model("llama"))) as other:
        assert [c.token_ids for c in one.generate(requests)] == [c.token_ids for c in other.generate(requests)]


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04 not safetensors at all")


def _without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-model", "architectures": ["X"]}))


def _remote_code(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    mapping = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": mapping}))


def _other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))


def _more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(num_hidden_layers=5, layer_types=["full_attention"] * 5)
    (folder / "config.json").write_text(json.dumps(config))


def _missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _escaping_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_weights, "without weights"),
        (_pickled, "only pickle weights (pytorch_model.bin)"),
        (_truncated, "model.safetensors is truncated"),
        (_garbage, "not a safetensors file"),
        (_without_tokenizer, "no tokenizer"),
        (_broken_tokenizer, "tokenizer can't be loaded"),
        (_without_config, "no config.json"),
        (_unknown_architecture, "can't be loaded as a causal language model"),
        (_remote_code, "can't be loaded as a causal language model"),
        (_other_shape, "can't be loaded as a causal language model"),
        (_more_layers, "weights are missing"),
        (_missing_shard, "model-00001-of-00002.safetensors is missing"),
        (_escaping_shard, "outside the folder"),
    ],
)
def test_a_spoiled_folder_gets_one_clear_line(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    folder = shutil.copytree(tiny_model("qwen3"), tmp_path / "spoiled")
    spoil(folder)
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert words in message and message.startswith("spoiled: ") and "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", "no such model folder"),
        ("./nowhere", "no such model folder"),
        ("", "no model named"),
        ("owner/model:bad name", "neither a folder nor a hub id"),
    ],
)
def test_a_name_that_is_nothing_gets_one_clear_line(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_model(name)


def test_an_unreachable_hub_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_model("owner/some-model")
    assert "hub can't be reached" in str(caught.value) and "\n" not in str(caught.value)


def test_a_weights_file_instead_of_its_folder_gets_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "vectors.pt"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="give the folder"):
        load_model(str(file))


@pytest.mark.parametrize(("options", "words"), [({"device": "abacus"}, "device"), ({"weights": "int8"}, "weights")])
def test_unknown_devices_and_types_get_one_clear_line(options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_model(str(tiny_model("qwen3")), **options)


def test_a_network_without_decoder_layers_is_named() -> None:
    with pytest.raises(SteeringError, match="Linear: no decoder layers found"):
        decoder_layers(torch.nn.Linear(2, 2))


def test_a_model_in_memory_can_be_wrapped() -> None:
    loaded = wrap_model(tiny_network("phi3").train(), tiny_tokenizer(), name="mine")
    assert loaded.info.name == "mine" and not loaded.model.training
