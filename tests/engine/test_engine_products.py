"""oneDNN's products in the place of MKL's."""

import pytest
import torch
from torch import nn

from steergraph.engine.decode.sampling import probabilities
from steergraph.engine.loading.products import OneDnnLinear, use_onednn
from steergraph.engine.protocol import Sampling


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 512), (3, 512), (2, 5, 512), (0, 512)])
def test_the_same_product(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(512, 24, bias=bias)
    given = torch.randn(shape)
    expected = layer(given)
    assert use_onednn(nn.Sequential(layer)) == 1 and isinstance(layer, OneDnnLinear)
    with torch.inference_mode():
        assert torch.allclose(layer(given), expected, atol=1e-5)
        turned = torch.randn(512, 4).t()  # not contiguous
        assert torch.allclose(layer(turned), nn.functional.linear(turned, layer.weight, layer.bias), atol=1e-5)


def test_gradients_and_other_types_go_torchs_own_way() -> None:
    layer = nn.Linear(512, 8)
    use_onednn(nn.Sequential(layer))
    layer(torch.randn(2, 512)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def test_narrow_half_and_peoples_own_layers_stay_as_they_are() -> None:
    class Own(nn.Linear):
        pass

    layers = nn.Sequential(nn.Linear(128, 8), nn.Linear(512, 8).half(), Own(512, 8))
    assert use_onednn(layers) == 0


def test_without_the_operation_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    layer = nn.Linear(512, 8)
    assert use_onednn(nn.Sequential(layer)) == 0 and type(layer) is nn.Linear


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("flat", [0.001, 1.0, 8.0])
def test_a_nucleus_of_a_large_vocabulary_is_that_of_the_whole(top_p: float, flat: float) -> None:
    torch.manual_seed(3)
    logits = flat * torch.randn(20_000)
    found = probabilities(logits, Sampling(temperature=0.8, top_p=top_p))
    plain = (logits / 0.8).softmax(dim=-1)
    ordered, order = plain.sort(descending=True)
    plain[order[ordered.cumsum(dim=-1) - ordered >= top_p]] = 0.0
    assert torch.equal(found > 0, plain > 0)
    assert torch.allclose(found, plain / plain.sum(), atol=1e-6)
