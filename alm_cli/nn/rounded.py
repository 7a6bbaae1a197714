"""Weights that are kept as 8-bit numbers and computed with in float32, for what runs now and then.

`alm_cli.nn.packed` rounds vectors too, which what runs at every step gains from; an encoder that
reads one text has features of very different sizes, and time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 1e-20
_ROWS = 256


class RoundedLinear(nn.Module):
    """A linear map of 8-bit weights, with a scale for each output."""

    weight: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rounded, scales = rounded_rows(weight)
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] float32 -> [..., E]."""
        # Never much of the weights in float32.
        weights, sizes = torch.split(self.weight, _ROWS), torch.split(self.scales, _ROWS)
        parts = zip(weights, sizes, strict=True)
        y = torch.cat([F.linear(x, some.float()) * scales for some, scales in parts], -1)
        return y if self.bias is None else y + self.bias


class RoundedEmbedding(nn.Module):
    """A table of 8-bit vectors, each with a scale."""

    weight: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rounded, scales = rounded_rows(weight)
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [...] -> [..., D] float32."""
        return self.weight[ids].float() * self.scales[ids][..., None]


def largest(rows: Tensor) -> Tensor:
    """rows [E, D] -> [E], the size of the largest number of each."""
    return rows.abs().amax(1)


def rounded_rows(
    weight: Tensor, size: Callable[[Tensor], Tensor] = largest
) -> tuple[Tensor, Tensor]:
    """weight [E, D] -> whole numbers [E, D] up to 127, and by what each row is multiplied.

    What `size` tells of a row becomes 127. The weight may be of any number type and lie in a mapped
    file: a few rows at a time are in memory.
    """
    scales, rounded = torch.empty(len(weight)), torch.empty(weight.shape, dtype=torch.int8)
    for begin in range(0, len(weight), _ROWS):
        some = slice(begin, begin + _ROWS)
        rows = weight[some].float()
        scales[some] = size(rows).clamp_(min=_LEAST).div_(127)
        rounded[some] = (rows / scales[some, None]).round_().to(torch.int8)
    return rounded, scales


def take_from_file(model: nn.Module) -> None:
    """Bring what is not packed of a mapped model into memory, parameters as float32."""
    for tensor in (*model.parameters(), *model.buffers()):
        wanted = torch.float32 if isinstance(tensor, nn.Parameter) else tensor.dtype
        # Memory that torch has asked for itself can grow; files that are mapped cannot.
        own = tensor.untyped_storage().resizable() and tensor.dtype == wanted
        tensor.data = tensor.data if own else tensor.data.to(wanted, copy=True)
