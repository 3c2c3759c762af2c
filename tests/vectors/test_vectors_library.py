"""Vectors on disk come back as they were, damaged and foreign files are refused in one line, misfits too."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.cli import main
from steergraph.engine.protocol import ModelInfo
from steergraph.engine.steering.directions import SteeringError, check_fits
from steergraph.vectors.library import Library
from steergraph.vectors.store.files import FORMAT, load_vector, save_vector
from steergraph.vectors.vector import SteeringVector, make_vector

INFO = ModelInfo(
    name="org/model",
    revision="a" * 40,
    architecture="Qwen3ForCausalLM",
    n_layers=4,
    hidden_size=8,
    window=128,
    kind="instruct",
)


def vector(name: str = "math", width: int = 8, layers: int = 4, **fields: Any) -> SteeringVector:
    generator = torch.Generator().manual_seed(width * layers)
    given: dict[str, Any] = {
        "model": INFO.name,
        "revision": INFO.revision,
        "method": "mean_difference",
        "contrast_hash": "c" * 16,
        "read_position": "last_prompt_token",
        "median_residual_norms": {layer: 2.5 + layer for layer in range(layers)},
        "metadata": {"held_out_auroc": {"0": 0.9}},
    }
    return make_vector(name, {k: torch.randn(width, generator=generator) for k in range(layers)}, **{**given, **fields})


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def rewrite(path: Path, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_vector(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message


# --- there and back ---------------------------------------------------------------------------------------------------

names = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="\ufffd"), min_size=1, max_size=40)
numbers = st.floats(-(2.0**99), 2.0**99, width=32)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=names,
    layers=st.sets(st.integers(0, 999), min_size=1, max_size=5),
    width=st.integers(1, 6),
    data=st.data(),
    metadata=st.dictionaries(names, st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(), max_size=4),
)
def test_round_trip(
    tmp_path: Path, name: str, layers: set[int], width: int, data: st.DataObject, metadata: dict[str, Any]
) -> None:
    rows = {k: torch.tensor(data.draw(st.lists(numbers, min_size=width, max_size=width))) for k in layers}
    made = make_vector(name, rows, model="m", contrast_hash="x", metadata=metadata)
    (path,) = Library({name: made}).save(tmp_path / "vectors")
    back = load_vector(path)
    assert back == made
    assert back.hash == made.hash
    assert all(torch.equal(back.directions[k], rows[k]) for k in layers)
    assert back.raw_norms == made.raw_norms
    path.unlink()


def test_a_file_says_where_its_vector_is_from(tmp_path: Path) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    header, _ = header_of(path)
    stored = header["__metadata__"]
    assert stored["format"] == FORMAT
    assert stored["created_by"].startswith("steergraph")
    assert (stored["model"], stored["method"]) == ("org/model", "mean_difference")
    assert {name for name in header if name != "__metadata__"} == {f"direction.{k}" for k in range(4)}


def test_the_hash_is_of_bytes_and_provenance() -> None:
    one = vector()
    assert len(one.hash) == 16
    assert one.hash == vector().hash == vector(name="other", metadata={}).hash
    moved = dict(one.directions) | {2: one.directions[2] + torch.tensor([1e-6] + [0.0] * 7)}
    others = [
        one.model_copy(update={"directions": moved}),
        vector(model="org/other"),
        vector(revision="b" * 40),
        vector(contrast_hash="d" * 16),
        vector(read_position="mean"),
        vector(median_residual_norms={0: 1.0}),
        vector(layers=3),
    ]
    assert len({o.hash for o in others} | {one.hash}) == len(others) + 1
    swapped = dict(one.directions) | {0: one.directions[1], 1: one.directions[0]}
    assert one.model_copy(update={"directions": swapped}).hash != one.hash


def test_half_precision_directions_are_stored_as_float32(tmp_path: Path) -> None:
    half = make_vector("v", {"layer_3": torch.ones(4, dtype=torch.bfloat16)})
    back = load_vector(save_vector(half, tmp_path / "v.safetensors"))
    assert list(back.directions) == [3]
    assert back.directions[3].dtype == torch.float32


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    before = path.read_bytes()
    for bad in (vector(metadata={"x": float("nan")}), vector(metadata={"x": object()})):
        with pytest.raises(InputError, match="metadata is not JSON"):
            save_vector(bad, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]
    with pytest.raises(InputError, match="cannot write"):
        write_whole(path / "below-a-file", b"x")
    with pytest.raises(InputError, match="ends in"):
        save_vector(vector(), tmp_path / "v.bin")


# --- damaged and foreign files ----------------------------------------------------------------------------------------


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path)
    path.write_bytes(whole + b"x")
    refused(path)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_changes_nothing_that_steers(tmp_path: Path, place: float, value: int) -> None:
    made = vector()
    path = save_vector(made, tmp_path / "v.safetensors")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= value
    path.write_bytes(bytes(data))
    try:
        back = load_vector(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:  # the name or the free metadata
        assert back.hash == made.hash


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_noise_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    header, body = header_of(path)
    rewrite(path, header, struct.pack("<f", bad) + body[4:])
    refused(path, "NaN or infinite")
    for name in ("raw_norms", "median_residual_norms"):
        save_vector(vector(), path)
        header, body = header_of(path)
        header["__metadata__"][name] = json.dumps({"0": bad})
        rewrite(path, header, body)
        refused(path, name)
    with pytest.raises(InputError, match="NaN or infinite"):
        make_vector("v", {0: torch.tensor([1.0, bad])})


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("format", "other", "not a steergraph vector"),
        ("format_version", "2", "format version '2'"),
        ("hidden_size", "99999999", "not a width"),
        ("hidden_size", "-8", "not a width"),
        ("hidden_size", "٨", "not a width"),
        ("hidden_size", "9", "as its metadata says"),
        ("raw_norms", "[1]", "not a number by layer"),
        ("raw_norms", '{"x": 1}', "not a number by layer"),
        ("raw_norms", '{"0": "1"}', "not a finite number"),
        ("raw_norms", '{"0": true}', "not a finite number"),
        ("raw_norms", '{"0": -1}', "not a finite number"),
        ("raw_norms", '{"0": 1e999}', "not a finite number"),
        ("raw_norms", "[" * 100_000, "not valid JSON"),
        ("metadata", "7", "not a mapping"),
        ("metadata", "{", "not valid JSON"),
        ("metadata", json.dumps("x" * 2**20), "characters of metadata"),
        ("name", " ", "its name is empty"),
        ("name", "a\x1b[31m", "control characters"),
        ("contrast_hash", "changed", "do not match the hash"),
        ("hash", "0" * 16, "do not match the hash"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, field: str, value: str, word: str) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    header, body = header_of(path)
    header["__metadata__"][field] = value
    rewrite(path, header, body)
    refused(path, word)


@pytest.mark.parametrize("field", ["name", "model", "hash", "hidden_size", "contrast_hash", "raw_norms", "metadata"])
def test_missing_metadata_is_named(tmp_path: Path, field: str) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    header, body = header_of(path)
    del header["__metadata__"][field]
    rewrite(path, header, body)
    refused(path, f"lacks {field}")


def test_foreign_tensors_are_refused(tmp_path: Path) -> None:
    path = save_vector(vector(), tmp_path / "v.safetensors")
    metadata = header_of(path)[0]["__metadata__"]
    for tensors, word in (
        ({"weight": torch.ones(8)}, "only direction.<layer>"),
        ({"direction.x": torch.ones(8)}, "only direction.<layer>"),
        ({"direction.01": torch.ones(8)}, "only direction.<layer>"),
        ({"direction.0": torch.ones(2, 4)}, "not F32 [8]"),
        ({"direction.0": torch.ones(7)}, "not F32 [8]"),
        ({"direction.0": torch.ones(8, dtype=torch.float64)}, "not F32 [8]"),
        ({f"direction.{k}": torch.ones(8) for k in range(1025)}, "1025 tensors"),
        ({}, "0 tensors"),
    ):
        save_file(tensors, path, metadata=metadata)
        refused(path, word)
    save_file({"weight": torch.ones(8)}, path)
    refused(path, "not a steergraph vector")


def test_an_absurdly_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as handle:
        handle.truncate(2**40)  # sparse
    refused(path, "MiB")


class Bomb:
    def __reduce__(self) -> Any:
        raise AssertionError("unpickled")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".PT"])
def test_pickles_are_never_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    path.write_bytes(pickle.dumps({"x": 1}))
    refused(path, "is not opened", "steergraph vectors import")
    renamed = path.rename(tmp_path / "v.safetensors")
    refused(renamed, "not a safetensors file")


def test_the_conversion_that_is_proposed_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"layer_2": torch.ones(8), "layer_3": torch.ones(8)}, "FILE.pt")
    with pytest.raises(InputError) as caught:
        load_vector("FILE.pt")
    command = str(caught.value).split("steergraph ")[1]
    assert main(command.split()) == 0
    back = load_vector("my-vectors/FILE.safetensors")
    assert sorted(back.directions) == [2, 3]
    assert back.model == "MODEL"


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "no such file")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "not a file")


@pytest.mark.parametrize(
    ("directions", "word"),
    [
        ({}, "no directions"),
        ({"norm": torch.ones(8)}, "layer's number"),
        ({1: torch.ones(8), "layer_1": torch.ones(8)}, "there twice"),
        ({0: torch.ones(8), 1: torch.ones(9)}, "not one width"),
        ({0: torch.ones(2, 4)}, "not one width"),
        ({0: torch.tensor(1.0)}, "not one width"),
        ({0: torch.ones(0)}, "not one width"),
    ],
)
def test_directions_that_are_none(directions: dict[Any, torch.Tensor], word: str) -> None:
    with pytest.raises(InputError, match=word):
        make_vector("v", directions)


# --- what fits, and the library ---------------------------------------------------------------------------------------


def test_what_fits_a_model() -> None:
    check_fits(vector(), INFO)
    check_fits(vector(), INFO, layer=3)
    check_fits(vector(), INFO.model_copy(update={"name": "model"}))  # a local copy of the hub's
    check_fits(vector(model="", revision=""), INFO)
    check_fits(vector(model="org/other"), INFO, force=True)


@pytest.mark.parametrize(
    ("made", "layer", "force", "word"),
    [
        ({"width": 9}, None, False, "of width 9, org/model has width 8"),
        ({"width": 9}, None, True, "of width 9"),
        ({"model": "org/other", "revision": "b"}, None, False, "made for org/other b, but loaded is org/model"),
        ({}, 4, False, "layer 4 is out of range, org/model has layers 0 to 3"),
        ({}, -1, False, "out of range"),
        ({"layers": 2}, 3, False, "no direction at layer 3, only at 0 to 1"),
    ],
)
def test_what_does_not_fit(made: dict[str, Any], layer: int | None, force: bool, word: str) -> None:
    with pytest.raises(SteeringError, match=word) as caught:
        check_fits(vector(**made), INFO, layer=layer, force=force)
    assert "\n" not in str(caught.value)


def test_two_local_models_of_one_name_differ_by_their_weights() -> None:
    local = INFO.model_copy(update={"name": "model", "revision": "1" * 16})
    check_fits(vector(model="model", revision="1" * 16), local)
    with pytest.raises(SteeringError, match="extract it anew"):
        check_fits(vector(model="model", revision="2" * 16), local)


def test_a_library_is_a_mapping_that_names_the_nearest(tmp_path: Path) -> None:
    library = Library({name: vector(name) for name in ("math", "law", "django_web/math")})
    assert set(library) == {"math", "law", "django_web/math"}
    assert "physics" not in library
    assert library.get("physics") is None
    with pytest.raises(SteeringError, match="no vector called 'maths'; nearest: math") as caught:
        library["maths"]
    assert isinstance(caught.value, KeyError)
    with pytest.raises(SteeringError, match="the library is empty"):
        Library()["math"]
    library.save(tmp_path)
    assert dict(Library.open(tmp_path)) == dict(library)


def test_a_library_on_disk_has_one_vector_of_a_name(tmp_path: Path) -> None:
    save_vector(vector(), tmp_path / "a.safetensors")
    save_vector(vector(), tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="a second vector called 'math'"):
        Library.open(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Library.open(tmp_path / "none")
