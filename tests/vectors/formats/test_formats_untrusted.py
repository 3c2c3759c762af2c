"""Files nobody trusts: every damaged, foreign, lying or hostile one is one InputError, and costs little memory."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as oracle
import numpy as np
import pytest
import torch
from formats_help import build, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.vectors.formats import FORMATS, detect, read_vectors, steering_of, write_vector
from steergraph.vectors.vector import make_vector

MADE = make_vector("v", {k: torch.linspace(-1, k, 6) for k in (1, 2)}, median_residual_norms={1: 2.0, 2: 3.0})
SUFFIX = {name: format.suffixes[0] for name, format in FORMATS.items()}


def written(folder: Path, format: str) -> Path:
    return write_vector(MADE, folder / f"v{SUFFIX[format]}", format, layers=(2,))


# --- damaged ----------------------------------------------------------------------------------------------------------


def survives(path: Path) -> None:
    """Reading gives finite vectors or InputError of one line, and less memory than a few times a small file."""
    tracemalloc.start()
    try:
        for made in read_vectors(path):
            assert all(bool(row.isfinite().all()) and row.dim() == 1 for row in made.directions.values())
            steering_of(made)
    except InputError as error:
        assert "\n" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("format", list(FORMATS))
@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_raise_nothing_else(tmp_path: Path, format: str, data: st.DataObject) -> None:
    damage(tmp_path, format, data)


@pytest.mark.parametrize("format", list(FORMATS))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_some_damaged_bytes_raise_nothing_else(tmp_path: Path, format: str, data: st.DataObject) -> None:
    damage(tmp_path, format, data)


def damage(folder: Path, format: str, data: st.DataObject) -> None:
    path = folder / f"v{SUFFIX[format]}"
    if not path.with_suffix(".whole").exists():
        path.with_suffix(".whole").write_bytes(written(folder, format).read_bytes())
    content = bytearray(path.with_suffix(".whole").read_bytes())
    places = data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4))
    for place in places:
        kind = data.draw(st.sampled_from(["byte", "large", "cut", "insert", "move"]))
        place = min(place, len(content))
        if kind == "byte":
            content[place : place + 1] = bytes([data.draw(st.integers(0, 255))])
        elif kind == "large":  # counts and lengths that lie
            content[place : place + 8] = data.draw(
                st.sampled_from([b"\xff" * 8, b"\xff" * 4, b"\0\0\0\x7f" * 2, b"9" * 8])
            )
        elif kind == "cut":
            del content[place : place + data.draw(st.integers(1, 64))]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(max_size=16))
        else:
            piece = content[place : place + 16]
            at = data.draw(st.integers(0, len(content)))
            content[at:at] = piece
    path.write_bytes(content)
    survives(path)


@pytest.mark.parametrize("format", list(FORMATS))
def test_every_truncation_is_refused(tmp_path: Path, format: str) -> None:
    path = written(tmp_path, format)
    content = path.read_bytes()
    whole = len(content.rstrip(b"\0")) if format == "gguf" else len(content)  # padding at its end is nobody's
    steps = [*range(0, whole, 1 + whole // 150), whole - 1]
    for length in steps:
        path.write_bytes(content[:length])
        refused(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"", b"GGUF\3\0\0\0", b"PK\x03\x04", b"{", b'{"directions":', b"\x80\x02"]),
    st.binary(max_size=200),
)
def test_noise_is_refused(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "noise").write_bytes(start + rest)
    refused(tmp_path / "noise")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("format", ["cast", "aisteer360", "easysteer", "neuronpedia"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_in_json(tmp_path: Path, format: str, data: st.DataObject) -> None:
    path = tmp_path / f"v{SUFFIX[format]}"
    if not path.with_suffix(".whole").exists():
        path.with_suffix(".whole").write_bytes(written(tmp_path, format).read_bytes())
    content = json.loads(path.with_suffix(".whole").read_text())
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            spots.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(content)
    node, key = data.draw(st.sampled_from(spots))
    node[key] = data.draw(json_values)
    path.write_text(json.dumps(content))
    survives(path)


# --- GGUF that lies ---------------------------------------------------------------------------------------------------


def head(tensors: int = 1, keys: int = 1, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def key(name: str, kind: int, raw: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + raw


ARCHITECTURE = key("general.architecture", 8, struct.pack("<Q", 13) + b"controlvector")


def tensor(name: str = "direction.1", dims: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return struct.pack("<Q", len(name)) + name.encode() + shape + struct.pack("<IQ", kind, offset)


def padded(raw: bytes, body: bytes = bytes(16)) -> bytes:
    return raw + bytes(-len(raw) % 32) + body


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (head(version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "beyond its end"),
        (b"FUGG" + bytes(20), "not a GGUF file"),
        (head(tensors=2**63), "beyond its end"),
        (padded(head(tensors=0) + ARCHITECTURE), "a vector has 1 to"),
        (padded(head(1025) + ARCHITECTURE + b"".join(tensor(f"direction.{k}", (1,), 0, 32 * k) for k in range(1025)),
                bytes(2**16)), "not a layer"),
        (head(keys=2**63), "beyond its end"),
        (head() + struct.pack("<Q", 2**62), "beyond its end"),
        (head() + key("a", 8, struct.pack("<Q", 2**40)), "beyond its end"),
        (head() + key("a", 9, struct.pack("<IQ", 8, 2**60)), "beyond its end"),
        (head() + key("a", 9, struct.pack("<IQ", 0, 2**17)) + bytes(2**17), "beyond its end"),
        (head() + key("a", 9, struct.pack("<IQ", 4, 2**19)), "beyond its end"),
        (head() + key("a", 9, struct.pack("<IQ", 9, 1) * 1200), "an array of ARRAY"),
        (head() + key("a", 77, b""), "is not a valid"),
        (head(keys=2) + key("a", 0, b"1") * 2, "Duplicate a"),
        (padded(head() + ARCHITECTURE.replace(b"control", b"feature") + tensor()), "not a control vector"),
        (padded(head() + ARCHITECTURE + tensor(dims=(2, 2))), "is F32 [2, 2]"),
        (padded(head() + ARCHITECTURE + tensor(dims=())), "is F32 []"),
        (padded(head() + ARCHITECTURE + tensor(kind=1)), "is F16 [4]"),
        (padded(head() + ARCHITECTURE + tensor(kind=12, dims=(256,)), bytes(256)), "is Q4_K [256]"),
        (padded(head() + ARCHITECTURE + tensor(dims=(2**60,))), "beyond its end"),
        (padded(head() + ARCHITECTURE + tensor(dims=(2**18,)), bytes(2**20)), "a direction is F32 [1 to"),
        (padded(head() + ARCHITECTURE + tensor(dims=(0,))), "is F32 [0]"),
        (padded(head() + ARCHITECTURE + tensor(dims=(2**32, 2**32))), "not a GGUF file"),
        (padded(head() + ARCHITECTURE + tensor(dims=(5,))), "beyond its end"),
        (padded(head() + ARCHITECTURE + tensor(offset=32)), "beyond its end"),
        (padded(head() + ARCHITECTURE + tensor(offset=2**63)), "beyond its end"),
        (padded(head() + ARCHITECTURE + tensor(offset=2**64 - 64)), "not a GGUF file"),
        (padded(head(2) + ARCHITECTURE + tensor() * 2), "duplicated tensor"),
        (padded(head(40) + ARCHITECTURE + b"".join(tensor(f"direction.{k}", (2**10,)) for k in range(40)),
                bytes(2**12)), "larger than the file"),
        (padded(head() + ARCHITECTURE + tensor("token_embd.weight")), "only direction.<layer>"),
        (padded(head() + ARCHITECTURE + tensor("direction.01")), "only direction.<layer>"),
        (padded(head() + ARCHITECTURE + tensor("direction.9999")), "not a layer"),
        (padded(head() + ARCHITECTURE + tensor("a\x1b[2J\n")), "only direction.<layer>"),
        (padded(head(keys=2) + ARCHITECTURE + key("general.alignment", 0, b"\3") + tensor()), "alignment"),
        (padded(head() + ARCHITECTURE + tensor(), np.float32([1, 2, np.nan, 4]).tobytes()), "NaN or infinite"),
        (padded(head() + ARCHITECTURE + tensor(), np.float32([1, 2, np.inf, 4]).tobytes()), "NaN or infinite"),
        (padded(head() + ARCHITECTURE + tensor(), np.full(4, 3e38, np.float32).tobytes()), "too long"),
    ],
)  # fmt: skip
def test_gguf_that_lies(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "v.gguf").write_bytes(content)
    refused(tmp_path / "v.gguf", word)


def test_directions_of_several_widths(tmp_path: Path) -> None:
    build(tmp_path / "v.gguf", {"direction.1": torch.ones(3), "direction.2": torch.ones(4)})
    refused(tmp_path / "v.gguf", "not one width")


@pytest.mark.parametrize(
    "told",
    ["{", "[]", '{"name": 3}', '{"median_residual_norms": {"x": 1}}', '{"median_residual_norms": {"1": -1}}',
     '{"metadata": 5}', '{"name": "a\\u001b"}', '{"median_residual_norms": {"1": 1e999}}', "[" * 50_000],
)  # fmt: skip
def test_provenance_that_lies(tmp_path: Path, told: str) -> None:
    build(tmp_path / "v.gguf", {"direction.1": torch.ones(3)}, **{"steergraph.provenance": told})
    refused(tmp_path / "v.gguf")


# --- .pt --------------------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise AssertionError('unpickled')",)


def entry(**fields: Any) -> dict[str, Any]:
    return {"layers.2": {"steering_vector": torch.ones(4), "steering_coefficient": 2.0, "action": "add", **fields}}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (Bomb(), "it holds"),
        ({"layers.2": Bomb()}, "it holds"),
        (entry(extra=Bomb()), "it holds"),
        (entry(steering_vector=np.ones(4)), "it holds"),
        (entry(steering_vector=torch.ones(4).long()), "it holds"),
        (entry(steering_vector=torch.nn.Parameter(torch.ones(4))), "it holds"),
        (entry(steering_vector=torch.ones(1).expand(4)), "repeats its numbers"),
        (entry(steering_vector=torch.ones(2, 2)), "not a tensor [width]"),
        (entry(steering_vector=torch.ones(0)), "0 wide"),
        (entry(steering_vector=2.0), "not a tensor [width]"),
        (entry(steering_vector=torch.tensor([1.0, float("nan")])), "NaN or infinite"),
        (entry(steering_coefficient=float("inf")), "not a finite number"),
        (entry(steering_coefficient="2"), "not a number"),
        (entry(steering_coefficient=True), "not a number"),
        (entry(action="clamp"), "only add is read"),
        (entry(head_index=1), "single attention head"),
        (entry(bias=3), "its bias is not a tensor"),
        (entry(other=1), "has not the keys"),
        ({"layers.2": {"steering_vector": torch.ones(4)}}, "has not the keys"),
        ({**entry(), "layers.3": torch.ones(4)}, "has not the keys"),
        ({"layers.2.mlp": entry()["layers.2"]}, "is not a block"),
        ({"layers.99999": entry()["layers.2"]}, "is not a block"),
        ({"layers.2000": entry()["layers.2"]}, "not a layer"),
        ({2: entry()["layers.2"]}, "is not a block"),
        ({**entry(), "model.layers.2": entry()["layers.2"]}, "there twice"),
        ({}, "nor tensors by layer"),
        ("text", "nor tensors by layer"),
        ({"dir": torch.ones(4), "avg_proj": torch.ones(1)}, "is not a layer"),
        ({2: torch.ones(2, 2)}, "not a tensor [width]"),
        ({2: torch.ones(4), "layer_2": torch.ones(4)}, "there twice"),
        ({2: torch.ones(4), 3: torch.ones(5)}, "not one width"),
        ({"layer_activations": {2: torch.ones(4)}, "layer_type": "mlp"}, "only whole blocks"),
        (torch.tensor(1.0), "not a tensor [width]"),
        (torch.ones(2, 3, 4), "a tensor [2, 3, 4]"),
        (torch.ones(4), "give --layer"),
        (torch.ones(3, 4), "say --rows"),
        ([1], "damaged, or"),
    ],
)  # fmt: skip
def test_pt_files_of_another_kind(tmp_path: Path, content: Any, word: str) -> None:
    torch.save(content, tmp_path / "v.pt")
    try:
        refused(tmp_path / "v.pt", word)
    except AssertionError as error:
        if word != "damaged, or":
            raise
        refused(tmp_path / "v.pt", "its pickle has")
        assert "unpickled" not in str(error)


def repacked(path: Path, change: Callable[[str, bytes], bytes | None], **how: Any) -> None:
    """The archive with each record's bytes replaced, or left out."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive, zipfile.ZipFile(path, "w", **how) as copy:
        for record in archive.infolist():
            content = change(record.filename, archive.read(record))
            if content is not None:
                copy.writestr(record.filename, content)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda name, raw: raw[:-4] if name.endswith("/0") else raw, "not as large as the file says"),
        (lambda name, raw: raw + bytes(4) if name.endswith("/0") else raw, "not as large as the file says"),
        (lambda name, raw: None if name.endswith("/0") else raw, "not as large as the file says"),
        (lambda name, raw: None if name.endswith(".pkl") else raw, "no data.pkl"),
        (lambda name, raw: b"big" if name.endswith("byteorder") else raw, "big-endian"),
        (lambda name, raw: raw.replace(b"K\x04", b"J\xff\xff\xff\x7f", 1), "a tensor is"),
        (lambda name, raw: b"\x80\2Nr\xff\xff\xff\xff." if name.endswith(".pkl") else raw, "neither lm-eval's"),
        (lambda name, raw: b"\x80\x04\x8e" + b"\xff" * 8 if name.endswith(".pkl") else raw, "damaged"),
        (lambda name, raw: raw + b"x" * 2**20 if name.endswith(".pkl") else raw, "more than a MiB"),
    ],
)  # fmt: skip
def test_archives_that_lie(tmp_path: Path, change: Callable[[str, bytes], bytes | None], word: str) -> None:
    torch.save(entry(), tmp_path / "v.pt")
    repacked(tmp_path / "v.pt", change)
    refused(tmp_path / "v.pt", word)


def test_a_compressed_archive_is_not_unfolded(tmp_path: Path) -> None:
    torch.save(entry(), tmp_path / "v.pt")
    repacked(tmp_path / "v.pt", lambda name, raw: raw + bytes(2**20), compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "v.pt", "compressed or locked")


def test_bare_pickles_are_never_opened(tmp_path: Path) -> None:
    for name in ("v.pt", "v.bin", "v"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        refused(tmp_path / name, "a bare pickle")
    torch.save(entry(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pt", "a bare pickle")


# --- JSON -------------------------------------------------------------------------------------------------------------

APPLY = {"prompt": "all", "generation": "all"}
BODY = {"modelId": "m", "layerNumber": 2, "hookType": "hook_resid_post", "vector": [1, 2]}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"directions": {}}, "no directions by layer"),
        ({"directions": [1]}, "no directions by layer"),
        ({"directions": {"x": [1]}}, "is not a layer"),
        ({"directions": {"-1": [1]}}, "is not a layer"),
        ({"directions": {"5000": [1]}}, "is not a layer"),
        ({"directions": {"3": []}}, "is not a list of"),
        ({"directions": {"3": [[]]}}, "is not a list of"),
        ({"directions": {"3": "123"}}, "is not a list of"),
        ({"directions": {"3": ["1.5"]}}, "not numbers"),
        ({"directions": {"3": [True]}}, "not numbers"),
        ({"directions": {"3": [10**400]}}, "NaN or infinite"),
        ({"directions": {"3": [1e39]}}, "NaN or infinite"),
        ({"directions": {"3": [[1, 2], [3, 4]]}}, "2 directions at key 3"),
        ({"directions": {"3": [1, 2], "4": [[1, 2]]}}, "some directions are lists"),
        ({"directions": {"3": [1, 2], "4": [1]}}, "not one width"),
        ({"directions": {"0": [1, 2]}}, "only key 0"),
        ({"directions": {"3": [1]}, "num_heads": 4}, "attention heads"),
        ({"directions": {"3": [1]}, "model_type": 3}, "its model_type"),
        ({"directions": {"3": [1]}, "explained_variances": {"3": "x"}}, "explained_variances"),
        ({"directions": {"3": [1]}, "explained_variances": 1}, "explained_variances"),
        ({"vectors": []}, "no list of 1 to"),
        ({"vectors": [{"source": "v.gguf"}]}, "has not the keys"),
        ({"vectors": [{"source": "../v.gguf", "apply": APPLY}]}, "not beside it"),
        ({"vectors": [{"source": "C:\\x\\v.gguf", "apply": APPLY}]}, "not beside it"),
        ({"vectors": [{"source": "..", "apply": APPLY}]}, "is no file"),
        ({"vectors": [{"source": 3, "apply": APPLY}]}, "its source"),
        ({"vectors": [{"source": "v.gguf", "apply": APPLY, "normalize": True}]}, "normalize"),
        ({"vectors": [{"source": "v.gguf", "apply": APPLY, "algorithm": "loreft"}]}, "algorithm"),
        ({"vectors": [{"source": "v.gguf", "apply": APPLY}] * 2}, "not sequential"),
        ({**BODY, "hookType": "hook_mlp"}, "its hookType"),
        ({**BODY, "hookType": "hook_resid_pre", "layerNumber": 0}, "is the output of none"),
        ({**BODY, "layerNumber": 1.5}, "is not a layer"),
        ({**BODY, "vectorDefaultSteerStrength": "3"}, "is not a number"),
        ({**BODY, "vectorLabel": "a\nb"}, "printable"),
        ({"a": 1}, "JSON with none of"),
    ],
)  # fmt: skip
def test_json_of_another_kind(tmp_path: Path, content: Any, word: str) -> None:
    (tmp_path / "v.json").write_text(json.dumps(content))
    refused(tmp_path / "v.json", word)


@pytest.mark.parametrize(
    "text",
    [
        '{"directions": {"3": [NaN]}}',
        '{"directions": {"3": [1], "3": [2]}}',
        '{"directions": ' + "[" * 100_000,
        '{"directions": {"3": [' + "9" * 5000 + "]}}",
        '{"directions": {"3": [1]}} trailing',
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.svec").write_text(text)
    refused(tmp_path / "v.svec", "not valid JSON")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"layers": [3]}, "not all of 1"),
        ({"layers": ["1"]}, "not all of 1"),
        ({"layers": []}, "not a list of layers"),
        ({"layers": 1}, "not a list of layers"),
        ({"scale": None}, "not a number"),
        ({"apply": {"prompt": "all"}}, "neither all positions"),
        ({"apply": {"prompt_window": [0, 2], "generation": "all"}}, "neither all positions"),
    ],
)
def test_specifications_that_we_cannot_say(tmp_path: Path, fields: dict[str, Any], word: str) -> None:
    write_vector(MADE, tmp_path / "v.gguf", layers=(1,))
    content = {"vectors": [{"source": "v.gguf", "apply": APPLY, **fields}]}
    (tmp_path / "v.json").write_text(json.dumps(content))
    refused(tmp_path / "v.json", word)


# --- any file ---------------------------------------------------------------------------------------------------------


def test_what_is_no_file_or_no_vector(tmp_path: Path) -> None:
    refused(tmp_path / "none.gguf", "no such file")
    refused(tmp_path, "not a file")
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", "none of the files that are read")
    with (tmp_path / "huge.gguf").open("wb") as handle:
        handle.write(b"GGUF")
        handle.truncate(2**40)  # sparse
    refused(tmp_path / "huge.gguf", "MiB; a vector has at most")
    with (tmp_path / "huge.json").open("wb") as handle:
        handle.write(b"{")
        handle.truncate(65 * 2**20)
    refused(tmp_path / "huge.json", "MiB of JSON")


@pytest.mark.parametrize("format", list(FORMATS))
def test_other_models_widths(tmp_path: Path, format: str) -> None:
    path = written(tmp_path, format)
    read_vectors(path, hidden_size=6)
    refused(path, "6 wide, not 8", hidden_size=8)


def test_side_is_for_svec(tmp_path: Path) -> None:
    refused(written(tmp_path, "gguf"), "side is for .svec", side="input")
    assert detect(written(tmp_path, "gguf")) == "gguf"
    assert oracle.GGUFReader(tmp_path / "v.gguf").tensors[0].name == "direction.2"
