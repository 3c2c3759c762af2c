"""The body of Neuronpedia's `POST /api/vector/new`: one direction at one layer.

`hook_resid_post` of layer k is the output of block k: the number goes over as it is. `hook_resid_pre` of layer k is its
input, the output of block k - 1. The direction is written at length 1, so that the strength, which Neuronpedia holds
between -300 and 300, is the alpha of `unit_vector`. The body is only made here; nothing is sent.
"""

from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.base.files import write_whole
from steergraph.vectors.formats.common import (
    UNKNOWN,
    Export,
    chosen,
    doses,
    dump_json,
    layer_of,
    number_of,
    numbers,
    origin,
    parse_json,
    row_of,
    scale_of,
    short,
    text_of,
    vector_of,
)
from steergraph.vectors.vector import SteeringVector

MAX_WIDTH = 24576
MAX_STRENGTH = 300.0
HOOKS = {"hook_resid_post": 0, "hook_resid_pre": 1}


def read(data: bytes, path: Path) -> SteeringVector:
    """The vector in an upload body. Raises InputError."""
    found = parse_json(data, path)
    hook = found.get("hookType")
    if not isinstance(hook, str) or hook not in HOOKS:
        raise InputError(f"{path}: its hookType is {short(hook)}, not hook_resid_post or hook_resid_pre")
    layer = layer_of(found.get("layerNumber"), f"{path}: its layerNumber") - HOOKS[hook]
    if layer < 0:
        raise InputError(f"{path}: the input of the first block (hook_resid_pre at 0) is the output of none")
    direction = row_of(found.get("vector"), f"{path}: its vector")
    strength = number_of(found.get("vectorDefaultSteerStrength", 1.0), f"{path}: its vectorDefaultSteerStrength")
    model = text_of(found.get("modelId"), f"{path}: its modelId")
    label = text_of(found.get("vectorLabel"), f"{path}: its vectorLabel")
    facts = origin("neuronpedia", model_id=model, hook=hook, doses=doses([layer], [strength]))
    return vector_of(path, {layer: direction}, name=label.strip(), metadata=facts)


def write(vector: SteeringVector, path: Path, how: Export) -> Path:
    """Write the body for the chosen layer; without `alpha` its strength is the direction's own length.

    Raises InputError where the width or the strength is more than Neuronpedia takes, or several layers are chosen.
    """
    layers = chosen(vector, how, one_by_one=True)
    if len(layers) > 1:
        raise InputError(f"{path}: a body holds one layer, not {len(layers)}; write a file for each")
    if how.positions != "all":
        raise InputError("Neuronpedia steers every position; positions=generated can't be said in its body")
    direction = vector.directions[layers[0]].double()
    length = float(direction.norm())
    if length == 0.0 or len(direction) > MAX_WIDTH:
        raise InputError(f"vector {vector.name!r}: a direction of length {length:g} and width {len(direction)}; "
                         f"Neuronpedia takes no zero and at most {MAX_WIDTH} numbers")  # fmt: skip
    strength = scale_of(vector, layers[0], how) * length
    if abs(strength) > MAX_STRENGTH:
        raise InputError(f"vector {vector.name!r}: strength {strength:g} at length 1 is beyond the {MAX_STRENGTH:g} "
                         "that Neuronpedia takes; give a smaller alpha")  # fmt: skip
    body = {
        "modelId": how.model_type or str(vector.metadata.get("model_type") or vector.model or UNKNOWN),
        "layerNumber": layers[0],
        "hookType": "hook_resid_post",
        "vector": numbers(direction / length),
        "vectorDefaultSteerStrength": strength,
        "vectorLabel": vector.name,
    }
    return write_whole(path, dump_json(body), parents=True)
