"""Linear maps that are as fast for a few vectors as memory can deliver the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What makes a linear map of a weight [E, D] and a bias.
Make = Callable[[Tensor, Tensor | None], nn.Module]

# For so few vectors and so many weights, reading the weights is what takes the time.
_FEW = 8
_MANY = 1 << 16


class Linear(nn.Linear):
    """`nn.Linear` for streams too, which bring one or two vectors a call."""

    bias: nn.Parameter | None  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., E]."""
        return product(x, self.weight, self.bias)


class StepLinear(nn.Module):
    """A linear map for each of several steps, each with weights of its own."""

    def __init__(self, steps: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(steps, outputs, inputs))
        self.together: nn.ModuleList | None = None

    def pack(self, make: Make) -> None:
        """Let parts that `make` makes take the place of the weights."""
        self.together = nn.ModuleList(make(weight, None) for weight in self.weight.data)
        del self.weight

    def forward(self, x: Tensor, step: int) -> Tensor:
        """x [..., D] at a step -> [..., E]."""
        return product(x, self.weight[step]) if self.together is None else self.together[step](x)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., D], weight [E, D] -> [..., E], as `F.linear`."""
    count = x.numel() // x.shape[-1]
    if not 0 < count <= _FEW or weight.numel() < _MANY or not is_plain(x):
        return F.linear(x, weight, bias)
    # Operands in this order, not as F.linear(x, weight) passes them, let MKL read the weights at
    # twice the speed and more, but only for two vectors and more, and one after the other.
    rows = x.reshape(count, -1) if count > 1 else x.reshape(1, -1).expand(2, -1)
    columns = F.linear(weight, rows.contiguous())
    y = (columns if count > 1 else columns[:, :1]).t().contiguous().view(*x.shape[:-1], -1)
    return y if bias is None else y.add_(bias)


def is_plain(x: Tensor) -> bool:
    """Whether x is of the kind that the fast products are for: float32 on the CPU."""
    return x.device.type == "cpu" and x.dtype == torch.float32
