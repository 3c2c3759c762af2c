"""The optimiser of pocket's training: orthogonalised momentum for matrices, AdamW for all else.

Knows parameters and gradients. The update of a matrix is its Nesterov momentum with all singular values pushed towards
one (five Newton-Schulz steps; the published "Muon" rule). Matrices of one shape are orthogonalised together.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


def orthogonalise(stack: Tensor, steps: int = 5) -> Tensor:
    """Each matrix of `stack` [n, rows, columns] with its singular values near one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = stack.shape[1] <= stack.shape[2]
    x = stack if wide else stack.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x if wide else x.transpose(1, 2)
    return result


class Optimizer:
    """One step at a time; its state is a flat dictionary of tensors, so that it can be saved without pickle."""

    def __init__(self, model: Any, matrix_rate: float = 0.02, other_rate: float = 3e-3, decay: float = 0.01) -> None:
        self.named: dict[str, Tensor] = dict(model.named_parameters())
        self.rates = (matrix_rate, other_rate)
        self.decay = decay
        self.groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, parameter in self.named.items():
            if parameter.ndim == 2 and "embed" not in name:
                self.groups[tuple(parameter.shape)].append(name)
        self.matrices = {name for names in self.groups.values() for name in names}
        self.momentum = {name: torch.zeros_like(self.named[name]) for name in self.matrices}
        others = [parameter for name, parameter in self.named.items() if name not in self.matrices]
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update every parameter with learning rates times `scale`, and clear the gradients."""
        for shape, names in self.groups.items():
            momenta, gradients = [], []
            for name in names:
                gradient = self.named[name].grad
                assert gradient is not None
                self.momentum[name].lerp_(gradient, 0.05)
                momenta.append(self.momentum[name])
                gradients.append(gradient)
            update = orthogonalise(torch.stack(gradients).lerp(torch.stack(momenta), 0.95))
            rate = self.rates[0] * scale * max(1.0, shape[0] / shape[1]) ** 0.5
            for name, change in zip(names, update, strict=True):
                self.named[name].mul_(1 - self.rates[0] * scale * self.decay).add_(change, alpha=-rate)
        for group in self.adam.param_groups:
            group["lr"] = self.rates[1] * scale
        self.adam.step()
        for parameter in self.named.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Momenta and AdamW's moments, by "kind/parameter"."""
        result = {f"momentum/{name}": value for name, value in self.momentum.items()}
        for name, parameter in self.named.items():
            for key, value in self.adam.state.get(parameter, {}).items():
                result[f"{key}/{name}"] = value if isinstance(value, Tensor) else torch.tensor(float(value))
        return result

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` returned."""
        for key, value in state.items():
            kind, _, name = key.partition("/")
            if kind == "momentum":
                self.momentum[name].copy_(value)
            else:
                self.adam.state[self.named[name]][kind] = value.clone()
