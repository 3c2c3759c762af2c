"""The matrix products of a model on a CPU: oneDNN's in the place of MKL's, where they take most of a step's time.

Knows torch's linear layers. On processors that are not Intel's, MKL's float32 products of a few rows run at a fraction
of what the processor can do; benchmarks/cpu_products.py measures by how much.
"""

from typing import Any

import torch
from torch import nn

LEAST_INPUTS = 512
"""Narrower layers stay as they are: there the call costs as much as the product."""


class OneDnnLinear(nn.Linear):
    """`nn.Linear` by way of oneDNN: the same product, its sums in another order."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        # The operation knows no gradients, and another device, type or a subclass of tensors has its own products.
        if torch.is_grad_enabled() or input.device.type != "cpu" or input.dtype != self.weight.dtype:
            return super().forward(input)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


def use_onednn(model: Any) -> int:
    """Have the float32 linear layers of a model on a CPU multiply by way of oneDNN. Returns how many do: 0 where this
    torch has no such operation. Names, weights and what is saved stay as they are."""
    wide = [layer for layer in model.modules() if type(layer) is nn.Linear and _fits(layer)]
    if not wide or not _works():
        return 0
    for layer in wide:
        layer.__class__ = OneDnnLinear
    return len(wide)


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and layer.in_features >= LEAST_INPUTS


def _works() -> bool:
    """Tried on small numbers: the operation is one of torch's own, without a promise that it stays."""
    trial = nn.Linear(8, 4)
    trial.__class__ = OneDnnLinear
    given = torch.arange(16.0).view(2, 8)
    try:
        with torch.no_grad():
            return torch.allclose(trial(given), nn.functional.linear(given, trial.weight, trial.bias), atol=1e-4)
    except (RuntimeError, AttributeError, TypeError):
        return False
