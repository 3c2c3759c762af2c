"""A model's matrices in float16 under float32 activations: half of the memory that each token has to read.

Knows torch's linear layers and embeddings. The products are FBGEMM's, which torch has on x86 processors with AVX2; what
they are worth is measured by benchmarks/cpu_products.py. They are as exact as the weights' rounding, 2**-11 of each.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from steergraph.base.errors import InputError

LEAST_INPUTS = 512
"""Narrower layers stay in float32: there the call costs as much as the product."""
LARGEST = 65504.0
"""Of float16."""


class HalfLinear(nn.Module):
    """`nn.Linear` with its matrix packed in float16; takes and gives float32. Knows no gradients."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach().float(), requires_grad=False)
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float(), self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("float16 products have no gradients; load the model with weights='float32'")
        given = input.float()
        if given.dim() == 1:  # the operation wants rows
            return self(given[None])[0]  # type: ignore[no-any-return]
        product: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(given, self._packed)
        return product

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class HalfEmbedding(nn.Embedding):
    """`nn.Embedding` that keeps float16 and gives float32."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.embedding(input, self.weight, self.padding_idx).float()


def pack_half(model: Any) -> int:
    """Have a model on the CPU, loaded in any float type, keep its wide matrices in float16 and calculate in float32.
    Returns how many matrices do; narrower layers become float32.

    Raises InputError for a matrix that float16 can't hold, or that holds no numbers.
    """
    wide = [(name, layer) for name, layer in model.named_modules() if _is_wide(layer)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # packing one matrix uses one core
        for (name, _), packed in zip(wide, threads.map(lambda one: _packed(*one), wide), strict=True):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, packed)
    table = model.get_input_embeddings()
    if wide and type(table) is nn.Embedding:
        # A copy: a view would keep the whole file mapped into memory.
        table.weight = nn.Parameter(table.weight.detach().to(torch.float16, copy=True), requires_grad=False)
        table.__class__ = HalfEmbedding
    for layer in model.modules():
        if not isinstance(layer, HalfEmbedding):
            for parameter in layer.parameters(recurse=False):
                parameter.data = parameter.data.float()
    return len(wide)


def has_half_products() -> bool:
    """Whether this torch multiplies so on this processor. Tried on small numbers: the operations are torch's own,
    without a promise that they stay, and fail in one way or another where the processor has no such instructions."""
    weight, given = torch.arange(32.0).view(4, 8) / 8, torch.arange(16.0).view(2, 8) / 8
    try:
        return torch.allclose(HalfLinear(weight, None)(given), functional.linear(given, weight), atol=1e-2)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def _is_wide(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.in_features >= LEAST_INPUTS


def _packed(name: str, layer: nn.Linear) -> HalfLinear:
    if not bool(layer.weight.detach().abs().max() <= LARGEST):
        raise InputError(f"{name}.weight: not numbers that float16 can hold; load the model with weights float32")
    packed = HalfLinear(layer.weight, layer.bias)
    layer.weight = None  # type: ignore[assignment]  # each matrix is held once, not all of them twice
    return packed
