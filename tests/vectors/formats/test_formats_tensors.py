"""Bare tensors in a `.pt`, as other programs save them, and what a file is held to where its model is at hand."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from formats_help import build, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.vectors.formats import detect, notes_of, read_vectors, steering_of, write_vector
from steergraph.vectors.formats.common import model_type_of
from steergraph.vectors.formats.expected import Expected
from steergraph.vectors.formats.tensors import read
from steergraph.vectors.store.files import load_vector
from steergraph.vectors.vector import make_vector

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
widths = st.integers(1, 6)
layer_numbers = st.lists(st.integers(0, 1023), min_size=1, max_size=5, unique=True)
lenient = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a model's config and nothing else."""
    folder = tmp_path / "some-model"
    folder.mkdir()
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@lenient
@given(layers=layer_numbers, width=widths, named=st.sampled_from(["{}", "layer_{}", "layers.{}", None]), nested=...)
def test_tensors_by_layer(tmp_path: Path, layers: list[int], width: int, named: str | None, nested: bool) -> None:
    """As steering-vectors has them in `layer_activations`, alone or with their layer_type."""
    rows = {layer: torch.randn(width) for layer in layers}
    content: dict[Any, Any] = {named.format(layer) if named else layer: row for layer, row in rows.items()}
    path = saved(
        tmp_path / "v.pt", {"layer_activations": content, "layer_type": "decoder_block"} if nested else content
    )
    assert detect(path) == "tensors"
    (back,) = read_vectors(path)
    assert back.directions.keys() == rows.keys()
    assert all(torch.equal(back.directions[layer], rows[layer]) for layer in rows)
    assert steering_of(back) is None


@lenient
@given(depth=st.integers(2, 12), width=widths, embedding=..., half=...)
def test_a_row_a_layer(tmp_path: Path, depth: int, width: int, embedding: bool, half: bool) -> None:
    """hidden-directions has as many rows as blocks; persona vectors' row 0 is the embedding's."""
    stack = torch.rand(depth + embedding, width) + 1
    stack = stack.half() if half else stack
    path = saved(tmp_path / "v.pt", stack)
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": width, "n_layer": depth}))
    refused(path, "--rows")
    (told,) = read_vectors(path, rows="hidden-states" if embedding else "outputs")
    (found,) = read_vectors(path, model=str(tmp_path))
    for back in (told, found):
        assert back.layers == tuple(range(depth))
        assert all(torch.equal(back.directions[k], stack[k + embedding].float()) for k in range(depth))
    assert f"{depth + embedding} rows, {tmp_path.name} has {depth} blocks" in notes_of(found)[0]


def test_rows_of_zeros_are_left_out_and_said(tmp_path: Path) -> None:
    """hidden-directions fills layers without a direction with zeros."""
    stack = torch.zeros(4, 8)
    stack[2] = 1
    (back,) = read_vectors(saved(tmp_path / "v.pt", stack), rows="outputs")
    assert back.layers == (2,)
    assert notes_of(back) == ["layers 0, 1, 3 are zero, left out"]
    refused(saved(tmp_path / "v.pt", torch.zeros(4, 8)), "all its rows are zero", rows="outputs")


def test_rows_of_another_model(tmp_path: Path, model: Path) -> None:
    refused(saved(tmp_path / "v.pt", torch.ones(7, 8)), "7 rows, and some-model has 4 blocks", model=str(model))


@pytest.mark.parametrize(
    ("name", "layer"),
    [("vec_layer_13_Llama-2-7b-chat-hf", 13), ("layer_9", 9), ("L-layer4", 4), ("Layers-0.normalized", 0)],
)
def test_a_single_direction_is_of_the_layer_in_its_name(tmp_path: Path, name: str, layer: int) -> None:
    path = saved(tmp_path / f"{name}.pt", torch.ones(1, 8))
    (back,) = read_vectors(path)
    assert back.layers == (layer,)
    assert notes_of(back) == [f"layer {layer}, as the file's name says"]
    (told,) = read_vectors(path, layer=7)
    assert told.layers == (7,)
    assert notes_of(told) == []


@pytest.mark.parametrize("name", ["v", "llama3", "layer_1_layer_2", "player_3", "layer_12345"])
def test_a_single_direction_whose_name_says_no_layer(tmp_path: Path, name: str) -> None:
    refused(saved(tmp_path / f"{name}.pt", torch.ones(8)), "give --layer")


@pytest.mark.parametrize(
    ("content", "how", "word"),
    [
        ({3: torch.ones(8)}, {"layer": 3}, "says its layers itself"),
        (torch.ones(2, 8), {"layer": 3}, "layer is for a single direction"),
        ({3: torch.ones(8)}, {"rows": "outputs"}, "rows is for a tensor of several"),
        ({"layers.3": {"steering_vector": torch.ones(8), "action": "add"}}, {"layer": 3}, "lm-eval's dictionary"),
        (torch.ones(8), {"layer": 3, "side": "input"}, "side is for .svec"),
    ],
)
def test_options_that_mean_nothing_for_the_file(tmp_path: Path, content: Any, how: dict[str, Any], word: str) -> None:
    refused(saved(tmp_path / "layer_1.pt", content), word, **how)


def test_an_object_of_another_programs_class_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("steering_vectors.steering_vector")
    made = type("SteeringVector", (), {"__module__": module.__name__})
    monkeypatch.setattr(module, "SteeringVector", made, raising=False)
    monkeypatch.setitem(sys.modules, "steering_vectors", ModuleType("steering_vectors"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = saved(tmp_path / "v.pt", made())
    refused(path, "it holds a steering_vectors.steering_vector.SteeringVector", "save its tensors alone")


# --- where the model is at hand ---------------------------------------------------------------------------------------


def test_another_width_is_refused_at_import(tmp_path: Path, model: Path) -> None:
    build(tmp_path / "v.gguf", {"direction.1": torch.ones(6)})
    refused(tmp_path / "v.gguf", "6 wide, not 8 as some-model", model=str(model))
    refused(saved(tmp_path / "v.pt", {1: torch.ones(6)}), "6 wide, not 8 as some-model", model=str(model))


def test_a_layer_that_the_model_lacks_is_refused_at_import(tmp_path: Path, model: Path) -> None:
    refused(saved(tmp_path / "v.pt", {4: torch.ones(8)}), "layers 0 to 3", model=str(model))


@pytest.mark.parametrize(
    ("told", "of", "outcome"),
    [
        ("llama", "llama", "same"),
        ("qwen3moe", "qwen3_moe", "same"),
        ("gemma3_text", "gemma3", "same"),
        ("llama", "mistral", "same"),
        ("unknown", "llama", "same"),
        ("", "llama", "same"),
        ("gemma2", "llama", "refused"),
        ("mistral", "llama", "refused"),
        ("command-r", "llama", "refused"),
        ("my model", "llama", "noted"),
    ],
)
def test_the_architecture_is_compared(tmp_path: Path, model: Path, told: str, of: str, outcome: str) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": of, "hidden_size": 8, "num_hidden_layers": 4}))
    (tmp_path / "v.svec").write_text(json.dumps({"model_type": told, "directions": {"2": [[1] * 8]}}))
    if outcome == "refused":
        refused(tmp_path / "v.svec", f"made for {told}, and some-model is {of}", model=str(model))
        return
    (back,) = read_vectors(tmp_path / "v.svec", model=str(model))
    assert back.model == "some-model"
    assert any("no architecture that is known" in sentence for sentence in notes_of(back)) == (outcome == "noted")


@pytest.mark.parametrize("name", ["org/nowhere", "a name for people"])
def test_what_was_not_compared_is_said(tmp_path: Path, name: str) -> None:
    (back,) = read_vectors(saved(tmp_path / "v.pt", {1: torch.ones(8)}), model=name)
    assert back.model == name
    assert notes_of(back) == [f"width 8 not compared with {name}, whose config is not on this machine"]


def test_a_pointer_of_git_lfs_is_called_one(tmp_path: Path) -> None:
    for name in ("v.gguf", "v.pt", "v.safetensors", "v.json"):
        (tmp_path / name).write_text(LFS)
        refused(tmp_path / name, "a Git LFS pointer")
    with pytest.raises(Exception, match="a Git LFS pointer"):
        load_vector(tmp_path / "v.safetensors")


# --- what exports say of the architecture -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"model_type": "qwen3", "architecture": "LlamaForCausalLM"}, "qwen3"),
        ({"architecture": "LlamaForCausalLM"}, "llama"),  # kept before vectors had a model_type
        ({"architecture": "GPT2LMHeadModel"}, "gpt2"),
        ({"architecture": "OfNobody"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_file_says_the_architecture_and_never_the_models_name(
    tmp_path: Path, metadata: dict[str, Any], said: str
) -> None:
    made = make_vector("v", {1: torch.ones(8)}, model="org/smollm2", metadata=metadata)
    assert model_type_of(made) == said
    path = write_vector(made, tmp_path / "v.svec", "aisteer360")
    assert json.loads(path.read_text())["model_type"] == said


@pytest.mark.parametrize("found", [torch.zeros(8), {0: torch.zeros(8), 1: torch.ones(8)}])
def test_a_direction_of_zeros_is_none(tmp_path: Path, found: object) -> None:
    path = tmp_path / "layer_3.pt"
    with pytest.raises(InputError, match="all zero"):
        read(found, path, layer=None, rows=None, model=Expected())
