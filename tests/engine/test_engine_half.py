"""Matrices in float16 under float32 activations: the same model within its rounding, steered and read alike."""

from pathlib import Path

import pytest
import torch
from engine_help import logits_of, steer, tiny_library
from tiny_models import tiny_model
from torch import nn

from steergraph.base.errors import InputError
from steergraph.engine.activations.texts import plain_median_norms
from steergraph.engine.loading import half, weight_types
from steergraph.engine.loading.half import HalfLinear, has_half_products, pack_half
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.loading.weight_types import held_as
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Message, Request, Sampling
from steergraph.vectors.compare.lens import vector_lens

pytestmark = pytest.mark.skipif(not has_half_products(), reason="this processor has no float16 products")

FAMILIES = ("qwen3", "gemma3", "llama", "lfm2", "mistral")
CPU = torch.device("cpu")
NEAR = 1e-2
"""Of all logits together, as a share."""


@pytest.fixture
def everything_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "LEAST_INPUTS", 1)


def both(architecture: str) -> tuple[LoadedModel, LoadedModel]:
    folder = str(tiny_model(architecture))
    return load_model(folder, weights="float32"), load_model(folder, weights="float16")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(512,), (1, 512), (3, 512), (2, 5, 512), (0, 512)])
def test_the_same_product(shape: tuple[int, ...], bias: bool) -> None:
    layer, given = nn.Linear(512, 24, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        found = HalfLinear(layer.weight, layer.bias)(given)
        assert found.dtype == torch.float32 and torch.allclose(found, layer(given), atol=2e-3)


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.usefixtures("everything_is_wide")
def test_a_model_is_the_same_within_the_rounding(architecture: str) -> None:
    plain, packed = both(architecture)
    assert any(isinstance(layer, HalfLinear) for layer in packed.model.modules())
    assert packed.info.quantization == "as float16" and packed.info.revision == plain.info.revision
    rows = [(list(range(3, 30)), list(range(40, 60)), steer() if k else None) for k in range(2)]
    for one, other in zip(logits_of(plain, rows), logits_of(packed, rows), strict=True):
        assert 0 < float((one - other).norm() / one.norm()) < NEAR
    assert plain_median_norms(packed) == pytest.approx(plain_median_norms(plain), rel=1e-2)


@pytest.mark.usefixtures("everything_is_wide")
def test_it_steers_and_its_vectors_can_be_read() -> None:
    plain, packed = both("qwen3")
    vector = tiny_library(plain.info)["v"]
    request = Request(
        messages=(Message(role="user", content="a"),), steering=steer(), sampling=Sampling(max_new_tokens=4)
    )
    with LocalEngine(packed, tiny_library(packed.info)) as engine:
        (found,) = engine.generate([request])
    assert found.receipt is not None
    assert [look.promoted[0].token for look in vector_lens(packed, vector).values()] == [
        look.promoted[0].token for look in vector_lens(plain, vector).values()
    ]


def test_a_row_does_not_change_with_its_neighbours_steering() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(512, 64), torch.randn(8, 512)
    product, changed = HalfLinear(layer.weight, layer.bias), rows.clone()
    changed[1:] *= 100
    assert torch.equal(product(rows)[0], product(changed)[0])


def test_gradients_are_refused_rather_than_lost() -> None:
    with pytest.raises(RuntimeError, match="weights='float32'"):
        HalfLinear(torch.ones(2, 4), None)(torch.ones(1, 4, requires_grad=True))


@pytest.mark.parametrize("entry", [1e5, float("nan"), float("inf")])
@pytest.mark.usefixtures("everything_is_wide")
def test_what_float16_cannot_hold_is_refused_by_name(entry: float) -> None:
    model = load_model(str(tiny_model("llama")), weights="float32").model
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = entry
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        pack_half(model)


def test_auto_goes_by_width_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(tiny_model("qwen3"))
    assert held_as("auto", CPU, place, "m") == torch.float32
    monkeypatch.setattr(weight_types, "LEAST_INPUTS", 1)
    assert held_as("auto", CPU, place, "m") == torch.float16
    assert held_as("float32", CPU, place, "m") == torch.float32
    assert held_as("auto", torch.device("meta"), place, "m") is None
    monkeypatch.setattr(weight_types, "has_half_products", lambda: False)
    assert held_as("auto", CPU, place, "m") == torch.float32
    monkeypatch.setattr(weight_types, "_memory", lambda: 1)
    assert held_as("auto", CPU, place, "m") is None
    with pytest.raises(InputError, match="no products for it"):
        held_as("float16", CPU, place, "m")
    with pytest.raises(InputError, match="use auto, float32, float16, bfloat16"):
        held_as("int3", CPU, place, "m")
