"""Vectors go into every format and come back, and layers and doses mean in it what they mean here."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as oracle
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.vectors.formats import FORMATS, detect, notes_of, read_vectors, steering_of, write_vector
from steergraph.vectors.vector import SteeringVector, make_vector

SUFFIX = {name: format.suffixes[0] for name, format in FORMATS.items()}
KEPT = ("gguf", "cast", "aisteer360", "steergraph")  # every layer in one file, the direction as it is
ONE_BY_ONE = ("lm-eval", "easysteer", "neuronpedia")
lenient = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def vector(name: str = "math", layers: tuple[int, ...] = (1, 2, 3), width: int = 8, **fields: Any) -> SteeringVector:
    generator = torch.Generator().manual_seed(width)
    given: dict[str, Any] = {
        "model": "org/model",
        "revision": "a" * 40,
        "method": "mean_difference",
        "contrast_hash": "c" * 16,
        "read_position": "last_prompt_token",
        "median_residual_norms": {layer: 2.5 + layer for layer in layers},
        "metadata": {"held_out_auroc": {"1": 0.9}, "n_layers": 99},
    }
    return make_vector(name, {k: torch.randn(width, generator=generator) for k in layers}, **{**given, **fields})


def same_bits(one: SteeringVector, other: SteeringVector) -> bool:
    return one.directions.keys() == other.directions.keys() and all(
        torch.equal(one.directions[k].view(torch.int32), other.directions[k].view(torch.int32)) for k in one.directions
    )


def delta(made: SteeringVector) -> dict[int, torch.Tensor]:
    """What the file asks to be added, by layer."""
    asked = steering_of(made)
    assert asked is not None
    return {c.layer: made.directions[c.layer] * c.alpha for c in asked.components}


def wanted(made: SteeringVector, layer: int, alpha: float, unit: str) -> torch.Tensor:
    direction = made.directions[layer]
    scale = {"raw": 1.0, "unit_vector": 1 / direction.norm()}.get(unit)
    if scale is None:
        scale = made.median_residual_norms[layer] / direction.norm()
    return direction * alpha * scale


# --- there and back ---------------------------------------------------------------------------------------------------

floats = st.floats(-(2.0**60), 2.0**60, width=32)
rows = st.integers(1, 6).flatmap(
    lambda width: st.dictionaries(
        st.integers(1, 300), st.lists(floats, min_size=width, max_size=width), min_size=1, max_size=4
    )
)
texts = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="\ufffd"), min_size=1, max_size=40)


@pytest.mark.parametrize("format", KEPT)
@lenient
@given(rows=rows, name=texts)
def test_directions_come_back_bit_for_bit(tmp_path: Path, format: str, rows: dict[int, list[float]], name: str) -> None:
    made = make_vector(name, {k: torch.tensor(row) for k, row in rows.items()}, model="org/model", revision="r")
    path = write_vector(made, tmp_path / f"v{SUFFIX[format]}", format)
    (back,) = read_vectors(path)
    assert same_bits(back, made)
    if format in ("gguf", "steergraph"):
        assert (back.name, back.hash) == (name, made.hash)
        assert made.metadata.items() <= back.metadata.items()


@pytest.mark.parametrize("format", ONE_BY_ONE)
@lenient
@example(row=[7.10504564262005e-40], layer=1)
@given(row=st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6).filter(any), layer=st.integers(1, 300))
def test_one_layer_comes_back_with_its_dose(tmp_path: Path, format: str, row: list[float], layer: int) -> None:
    made = make_vector("v", {layer: torch.tensor(row)}, model="org/model")
    if 2.5 / made.raw_norms[layer] > torch.finfo(torch.float32).max:  # no reader could hold the dose
        with pytest.raises(InputError, match="too short"):
            write_vector(made, tmp_path / f"v{SUFFIX[format]}", format, alpha=2.5)
        return
    path = write_vector(made, tmp_path / f"v{SUFFIX[format]}", format, alpha=2.5)
    (back,) = read_vectors(path)
    (asked,) = delta(back).items()
    assert asked[0] == layer
    exact = made.directions[layer].double()  # squares of the smallest float32 are zero in float32
    assert torch.allclose(asked[1], (exact / exact.norm() * 2.5).float(), atol=1e-5)
    if format != "neuronpedia":
        assert same_bits(back, made)


@pytest.mark.parametrize("unit", ["raw", "unit_vector", "residual"])
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "steergraph"])
def test_every_unit_is_the_same_dose_in_every_format(tmp_path: Path, format: str, unit: str) -> None:
    made = vector()
    path = tmp_path / f"v{SUFFIX[format]}"
    write_vector(made, path, format, layers=(2,), alpha=-1.5, unit=unit)
    (back,) = read_vectors(path)
    assert list(delta(back)) == [2]
    assert torch.allclose(delta(back)[2], wanted(made, 2, -1.5, unit), atol=1e-5)


def test_without_alpha_a_file_asks_for_no_dose(tmp_path: Path) -> None:
    for format in ("gguf", "cast", "aisteer360"):
        (back,) = read_vectors(write_vector(vector(), tmp_path / f"v{SUFFIX[format]}", format))
        assert steering_of(back) is None


@pytest.mark.parametrize("format", ["lm-eval", "easysteer"])
def test_several_layers_in_one_file_have_to_be_chosen(tmp_path: Path, format: str) -> None:
    made, path = vector(), tmp_path / f"v{SUFFIX[format]}"
    with pytest.raises(InputError, match="say which of layers 1 to 3"):
        write_vector(made, path, format, alpha=2.0)
    write_vector(made, path, format, alpha=2.0, layers=(3, 1))
    (back,) = read_vectors(path)
    assert {layer: round(float(row.norm()), 4) for layer, row in delta(back).items()} == {1: 2.0, 3: 2.0}


def test_names_models_and_widths_of_the_caller(tmp_path: Path) -> None:
    path = write_vector(vector(), tmp_path / "v.gguf")
    (back,) = read_vectors(path, name="other", model="org/else", hidden_size=8)
    assert (back.name, back.model) == ("other", "org/else")
    with pytest.raises(InputError, match="8 wide, not 16: they are of another model"):
        read_vectors(path, hidden_size=16)


# --- GGUF -------------------------------------------------------------------------------------------------------------


def test_the_gguf_package_reads_what_we_write(tmp_path: Path) -> None:
    made = vector("médecine", layers=(1, 2, 11), width=7, metadata={"model_type": "qwen3"})
    reader = oracle.GGUFReader(write_vector(made, tmp_path / "v.gguf"))
    assert {tensor.name: tensor.tensor_type for tensor in reader.tensors} == dict.fromkeys(
        ("direction.1", "direction.2", "direction.11"), oracle.GGMLQuantizationType.F32
    )
    for tensor in reader.tensors:
        assert np.array_equal(tensor.data, made.directions[int(tensor.name.split(".")[1])].numpy())
    values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert values["general.architecture"] == "controlvector"
    assert values["general.name"] == "médecine"
    assert values["controlvector.model_hint"] == "qwen3"
    assert values["controlvector.layer_count"] == 3
    assert reader.fields["controlvector.layer_count"].types == [oracle.GGUFValueType.UINT32]
    assert values["steergraph.alpha_baked"] is False
    baked = oracle.GGUFReader(write_vector(made, tmp_path / "b.gguf", alpha=3.0, unit="raw"))
    assert baked.fields["steergraph.alpha_baked"].contents() is True
    assert json.loads(baked.fields["steergraph.provenance"].contents())["baked"] == {"alpha": 3.0, "unit": "raw"}
    assert np.allclose(baked.tensors[0].data, made.directions[1].numpy() * 3)


def foreign(path: Path, architecture: str = "controlvector", fill: Callable[[Any], None] = lambda writer: None) -> Path:
    writer = oracle.GGUFWriter(path, architecture)
    writer.add_string(f"{architecture}.model_hint", "qwen3")
    fill(writer)
    for layer in (3, 9):
        writer.add_tensor(f"direction.{layer}", np.arange(5, dtype=np.float32) + layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("architecture", ["controlvector", "steeringvector"])  # the second is dialz's
@pytest.mark.parametrize("count", ["add_uint32", "add_int32"])  # repeng's, cvector-generator's
def test_we_read_what_the_gguf_package_writes(tmp_path: Path, architecture: str, count: str) -> None:
    path = foreign(tmp_path / "v.gguf", architecture, lambda w: getattr(w, count)(f"{architecture}.layer_count", 2))
    (back,) = read_vectors(path)
    assert back.name == "v"
    assert back.metadata["model_type"] == "qwen3"
    assert back.metadata["imported"]["layer_count"] == 2
    assert {layer: row.tolist() for layer, row in back.directions.items()} == {
        layer: [layer + float(k) for k in range(5)] for layer in (3, 9)
    }


def test_extra_metadata_of_every_type_is_passed_over(tmp_path: Path) -> None:
    def fill(writer: Any) -> None:
        writer.add_string("controlvector.method", "pca")
        writer.add_float32("controlvector.variance", 0.5)
        writer.add_bool("controlvector.normalize", True)
        writer.add_uint64("controlvector.pairs", 7)
        writer.add_array("controlvector.names", ["a", "bé"])
        writer.add_array("controlvector.explained", [0.5, 0.25])
        writer.add_custom_alignment(64)

    (back,) = read_vectors(foreign(tmp_path / "v.gguf", fill=fill))
    assert back.method == "pca"
    assert sorted(back.directions) == [3, 9]


def test_layer_0_is_refused_or_left_out(tmp_path: Path) -> None:
    made = vector(layers=(0, 1))
    with pytest.raises(InputError, match="can't steer layer 0"):
        write_vector(made, tmp_path / "v.gguf")
    assert not (tmp_path / "v.gguf").exists()
    (back,) = read_vectors(write_vector(made, tmp_path / "v.gguf", skip_layer_0=True))
    assert list(back.directions) == [1]
    with pytest.raises(InputError, match="no layer but 0"):
        write_vector(vector(layers=(0,)), tmp_path / "v.gguf", skip_layer_0=True)


# --- .svec ------------------------------------------------------------------------------------------------------------


def test_cast_edits_inputs_and_aisteer360_outputs(tmp_path: Path) -> None:
    made = vector(layers=(0, 4))
    cast = json.loads(write_vector(made, tmp_path / "c.svec", "cast", model_type="qwen3").read_text())
    assert cast["model_type"] == "qwen3"
    assert list(cast["directions"]) == list(cast["explained_variances"]) == ["1", "5"]
    assert np.array_equal(np.float32(cast["directions"]["5"]), made.directions[4].numpy())
    other = json.loads(write_vector(made, tmp_path / "a.svec", "aisteer360").read_text())
    assert list(other["directions"]) == ["0", "4"]
    assert np.array(other["directions"]["4"]).shape == (1, 8)


def test_a_reader_goes_by_the_shape_or_by_what_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "v.svec"
    flat = {"model_type": "llama", "directions": {"0": [1, 2.0], "3": [3, 4]}, "explained_variances": {"3": 0.5}}
    path.write_text(json.dumps(flat))
    (back,) = read_vectors(path)
    assert list(back.directions) == [2]
    assert "key 0, the input of the first block, dropped" in notes_of(back)[0]
    assert list(read_vectors(path, side="output")[0].directions) == [0, 3]
    path.write_text(json.dumps({**flat, "directions": {"0": [[1, 2.0]], "3": [[3, 4]]}}))
    assert list(read_vectors(path)[0].directions) == [0, 3]
    assert list(read_vectors(path, side="input")[0].directions) == [2]


def test_cast_variances_come_back_at_their_layers(tmp_path: Path) -> None:
    flat = {"model_type": "llama", "directions": {"3": [3, 4]}, "explained_variances": {"3": 0.25}}
    (tmp_path / "v.svec").write_text(json.dumps(flat))
    (back,) = read_vectors(tmp_path / "v.svec")
    again = json.loads(write_vector(back, tmp_path / "w.svec", "cast").read_text())
    assert again == {**flat, "directions": {"3": [3.0, 4.0]}}


def test_the_last_block_has_no_next_one_for_cast(tmp_path: Path) -> None:
    made = vector(metadata={"n_layers": 4})
    with pytest.raises(InputError, match="layer 3 is the last of 4"):
        write_vector(made, tmp_path / "v.svec", "cast")
    write_vector(made, tmp_path / "v.svec", "cast", layers=(1, 2))


# --- EasySteer and Neuronpedia ----------------------------------------------------------------------------------------


def test_an_easysteer_specification_names_its_gguf(tmp_path: Path) -> None:
    made = vector()
    path = write_vector(made, tmp_path / "v.json", "easysteer", layers=(2,), alpha=4.0, positions="generated")
    spec = json.loads(path.read_text())
    (entry,) = spec["vectors"]
    length = float(made.directions[2].double().norm())
    assert math.isclose(entry.pop("scale"), 4.0 / length)
    apply = {"prompt_positions": [-1], "generation": "all"}
    assert entry == {"source": "v.gguf", "layers": [2], "apply": apply}
    assert "normalize" not in entry  # EasySteer's keeps the hidden state's length: it would be another intervention
    (back,) = read_vectors(path)
    assert back.hash != made.hash  # one layer of three
    assert steering_of(back).components[0].positions == "generated"  # type: ignore[union-attr]
    two = json.loads(write_vector(made, path, "easysteer", layers=(1, 2), alpha=1.0, source="/srv/v.gguf").read_text())
    assert two["conflict"] == "sequential"
    assert {entry["source"] for entry in two["vectors"]} == {"/srv/v.gguf"}
    assert sorted(delta(read_vectors(path)[0])) == [1, 2]  # a server's path is looked for beside the specification


def test_an_easysteer_body_of_a_request_is_read(tmp_path: Path) -> None:
    write_vector(vector(), tmp_path / "x.gguf")
    apply = {"prompt": "all", "generation": "all"}
    spec = {"vectors": [{"source": "x.gguf", "scale": 2.0, "layers": [1, 3], "normalize": False, "apply": apply}]}
    for content in (spec, {"steering": spec}, {"spec": spec}):
        (tmp_path / "s.json").write_text(json.dumps(content))
        (back,) = read_vectors(tmp_path / "s.json")
        asked = steering_of(back)
        assert asked is not None
        assert [(c.vector, c.layer, c.alpha, c.unit, c.positions) for c in asked.components] == [
            ("math", 1, 2.0, "raw", "all"),
            ("math", 3, 2.0, "raw", "all"),
        ]


def test_neuronpedia_takes_the_body(tmp_path: Path) -> None:
    made = vector()
    body = json.loads(
        write_vector(
            made, tmp_path / "v.json", "neuronpedia", layers=(2,), alpha=12.0, model_type="gemma-2-2b"
        ).read_text()
    )
    assert math.isclose(math.hypot(*body.pop("vector")), 1.0, rel_tol=1e-6)
    assert math.isclose(body.pop("vectorDefaultSteerStrength"), 12.0)
    assert body == {
        "modelId": "gemma-2-2b",
        "layerNumber": 2,
        "hookType": "hook_resid_post",
        "vectorLabel": "math",
    }
    body |= {"vector": [1, 0], "hookType": "hook_resid_pre", "vectorDefaultSteerStrength": 5}
    (tmp_path / "v.json").write_text(json.dumps(body))
    (back,) = read_vectors(tmp_path / "v.json")
    assert list(delta(back)) == [1]  # the input of block 2 is the output of block 1
    with pytest.raises(InputError, match="strength 301 at length 1 is beyond"):
        write_vector(made, tmp_path / "v.json", "neuronpedia", layers=(2,), alpha=301.0)


# --- lm-eval ----------------------------------------------------------------------------------------------------------


def test_the_lm_eval_file_has_the_key_bias_and_no_bias(tmp_path: Path) -> None:
    made = vector()
    path = write_vector(made, tmp_path / "v.pt", layers=(2,), alpha=4.0, unit="raw", hookpoint="h")
    content = torch.load(path, weights_only=True)
    assert list(content) == ["h.2"]
    assert sorted(content["h.2"]) == ["action", "bias", "steering_coefficient", "steering_vector"]
    assert content["h.2"]["bias"] is None  # 0.4.8 to 0.4.9.1 look the key up, later versions refuse another value
    assert content["h.2"]["action"] == "add"
    assert content["h.2"]["steering_coefficient"] == 4.0
    assert torch.equal(content["h.2"]["steering_vector"], made.directions[2])


def test_lm_evals_own_example(tmp_path: Path) -> None:
    """A row of shape [1, width], and a bias that `add` never uses."""
    entry = {
        "steering_vector": torch.randn(1, 8),
        "bias": torch.randn(1, 8),
        "steering_coefficient": 1,
        "action": "add",
    }
    torch.save({"layers.3": entry}, tmp_path / "steer_config.pt")
    (back,) = read_vectors(tmp_path / "steer_config.pt")
    assert torch.equal(back.directions[3], entry["steering_vector"][0])
    assert notes_of(back) == ["bias at 3 passed over: lm-eval's add has no use for one"]


def test_other_peoples_lm_eval_files(tmp_path: Path) -> None:
    """Half precision, a row of a larger matrix (as a sparse coder has), every key, a bias of zeros, a number tensor."""
    decoder = torch.randn(5, 8)
    content = {
        "layers.2": {"steering_vector": decoder[3], "steering_coefficient": torch.tensor(2.0), "action": "add"},
        "model.layers.10": {
            "steering_vector": decoder[1].half(),
            "steering_coefficient": 3,
            "action": "add",
            "bias": torch.zeros(8),
            "head_index": None,
        },
        "layers.4": {"steering_vector": decoder[2].bfloat16(), "action": "add", "bias": None},
    }
    torch.save(content, tmp_path / "v.pt")
    (back,) = read_vectors(tmp_path / "v.pt")
    assert torch.equal(back.directions[2], decoder[3])
    assert torch.equal(back.directions[10], decoder[1].half().float())
    assert {c.layer: c.alpha for c in steering_of(back).components} == {2: 2.0, 4: 1.0, 10: 3.0}  # type: ignore[union-attr]


# --- which format -----------------------------------------------------------------------------------------------------


def test_files_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    for format in FORMATS:
        path = write_vector(vector(), tmp_path / f"v{SUFFIX[format]}", format, layers=(2,))
        renamed = path.rename(tmp_path / f"{format}.dat")
        assert detect(renamed) == {"cast": "svec", "aisteer360": "svec"}.get(format, format)
        (tmp_path / "v.gguf").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "format", "how", "word"),
    [
        ("v.json", None, {}, "say the format, one of easysteer, neuronpedia"),
        ("v.svec", None, {}, "say the format, one of cast, aisteer360"),
        ("v.txt", None, {}, "say the format, one of gguf"),
        ("v.gguf", "onnx", {}, "no format called 'onnx'"),
        ("v.bin", "lm-eval", {}, "ends in .pt or .pth"),
        ("v.gguf", None, {"layers": (7,)}, "no direction at layer 7, only at 1 to 3"),
        ("v.gguf", None, {"layers": ()}, "no direction at layer none"),
        ("v.gguf", None, {"alpha": float("nan")}, "alpha: "),
        ("v.gguf", None, {"unit": "meters"}, "unit: "),
        ("v.gguf", None, {"beta": 1}, "beta: "),
        ("v.gguf", None, {"alpha": 1e300, "unit": "raw"}, "beyond float32"),
        ("v.svec", "cast", {"alpha": 1e300, "unit": "raw"}, "beyond float32"),
        ("v.pt", None, {"layers": (1,), "positions": "generated"}, "every position"),
        ("v.json", "neuronpedia", {"layers": (1, 2)}, "a body holds one layer, not 2"),
        ("v.json", "neuronpedia", {"layers": (1,), "positions": "generated"}, "every position"),
        ("v.safetensors", None, {"alpha": 2.0}, "has no dose"),
    ],
)
def test_what_a_format_cannot_say(
    tmp_path: Path, name: str, format: str | None, how: dict[str, Any], word: str
) -> None:
    with pytest.raises(InputError, match=word) as caught:
        write_vector(vector(), tmp_path / name, format, **how)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_doses_without_a_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no median residual norm at layer 1"):
        write_vector(vector(median_residual_norms={}), tmp_path / "v.gguf", alpha=0.1, unit="residual")
    with pytest.raises(InputError, match="at layer 1 is zero"):
        write_vector(make_vector("v", {1: torch.zeros(4)}), tmp_path / "v.gguf", alpha=1.0)


@pytest.mark.parametrize("name", [" ", "a\nb", "x" * 1025])
def test_names_that_no_reader_takes_are_not_written(tmp_path: Path, name: str) -> None:
    for format in FORMATS:
        with pytest.raises(InputError):
            write_vector(vector(name), tmp_path / f"v{SUFFIX[format]}", format, layers=(1,))
    assert not list(tmp_path.iterdir())


def test_torch_reads_our_file_as_it_reads_its_own(tmp_path: Path) -> None:
    path = write_vector(vector(), tmp_path / "v.pt", layers=(1,))
    with path.open("rb") as handle:
        assert torch.load(io.BytesIO(handle.read()), weights_only=True)["layers.1"]["steering_coefficient"] == 1.0
