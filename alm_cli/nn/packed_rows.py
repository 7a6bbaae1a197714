"""Weights of 16 bits packed as half floats without a change, whichever 16 bits they were.

Half floats have more digits than bfloat16 and a smaller range. A power of two for each output
brings its weights into this range, and takes them out of it again after the product: both exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alm_cli.nn.linear import Linear
from alm_cli.nn.packed import HalfLinear, can_pack

# Exponents of the largest half floats.
_TOP = 15


class ScaledHalfLinear(nn.Module):
    """A linear map of half floats, times a power of two for each output; computed in float32."""

    scales: Tensor

    def __init__(self, weight: Tensor, exponents: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.inner = HalfLinear(torch.ldexp(weight, exponents[:, None]), None)
        self.register_buffer("scales", torch.ldexp(torch.ones(len(weight)), -exponents))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        y: Tensor = self.inner(x)
        return (
            y.mul_(self.scales) if self.bias is None else torch.addcmul(self.bias, y, self.scales)
        )


def pack_rows(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """The fastest map of weight [E, D] and bias that changes neither; for `packed.pack_with`."""
    if can_pack() and weight.device.type == "cpu" and weight.dtype == torch.float32:
        largest = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny)
        exponents = _TOP - 1 - torch.frexp(largest).exponent
        scaled = torch.ldexp(weight, exponents[:, None])
        if torch.equal(scaled.half().float(), scaled):
            return ScaledHalfLinear(weight, exponents, bias)
    return _plain(weight, bias)


def _plain(weight: Tensor, bias: Tensor | None) -> Linear:
    made = Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made
