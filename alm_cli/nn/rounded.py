"""Weights that are kept as 8-bit numbers and computed with in float32, for what runs now and then.

`alm_cli.nn.packed` rounds vectors too, which what runs at every step gains from; an encoder that
reads one text has features of very different sizes, and time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 1e-20
_ROWS = 2048


class RoundedLinear(nn.Module):
    """A linear map of 8-bit weights, with a scale for each output."""

    weight: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rounded, scales = _rounded(weight)
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        return F.linear(x, self.weight.float(), None) * self.scales + (
            0 if self.bias is None else self.bias
        )


class RoundedEmbedding(nn.Module):
    """A table of 8-bit vectors, each with a scale."""

    weight: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rounded, scales = _rounded(weight)
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [...] -> [..., D] float32."""
        return self.weight[ids].float() * self.scales[ids][..., None]


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [E, D] -> whole numbers [E, D] up to 127, and by what each row is multiplied."""
    scales, rounded = weight.new_empty(len(weight)), torch.empty(weight.shape, dtype=torch.int8)
    # A large table would be in memory three times more.
    for rows in torch.split(torch.arange(len(weight)), _ROWS):
        some = slice(int(rows[0]), int(rows[-1]) + 1)
        scales[some] = weight[some].abs().amax(1).clamp_(min=_LEAST).div_(127)
        rounded[some] = (weight[some] / scales[some, None]).round_().to(torch.int8)
    return rounded, scales
