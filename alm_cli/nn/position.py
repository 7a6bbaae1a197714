"""How attention learns where a vector stands in its sequence."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

Style = Literal["halves", "pairs"]

# Positions whose sines are computed at a time: a stream asks for one or two a call.
_TABLE = 1024


class Rotary(nn.Module):
    """Rotary position: queries and keys are turned by angles that grow with their position.

    arXiv:2104.09864. A head's features are turned two by two: neighbours (`pairs`), or each of the
    first half with one of the second (`halves`). Which of them a checkpoint means is not visible in
    its names or shapes.
    """

    def __init__(self, style: Style, base: float = 10_000.0) -> None:
        super().__init__()
        self.style: Style = style
        self.base = base

    def forward(self, x: Tensor, begin: int = 0) -> Tensor:
        """x [B, H, S, D] at positions from `begin` on -> [B, H, S, D]."""
        length, dimension = x.shape[-2:]
        cosine, sine = _turns(self.style, self.base, begin, length, dimension, x.dtype, x.device)
        shape, axis = ((-1, 2), -1) if self.style == "pairs" else ((2, -1), -2)
        swapped = x.reshape(*x.shape[:-1], *shape).flip(axis).view(x.shape)
        return torch.addcmul(x * cosine, swapped, sine)


# All layers of a stack ask for the same positions in turn.
@lru_cache(maxsize=8)
def _turns(
    style: Style,
    base: float,
    begin: int,
    length: int,
    dimension: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, D] of the positions from `begin` on."""
    first = begin // _TABLE * _TABLE
    count = -(-(begin + length - first) // _TABLE) * _TABLE
    rows = slice(begin - first, begin - first + length)
    cosine, sine = _table(style, base, first, count, dimension, dtype, device)
    return cosine[rows], sine[rows]


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _table(
    style: Style,
    base: float,
    first: int,
    count: int,
    dimension: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, D]; the first of two features takes the sine of the second away."""
    # In float32 throughout, as models were trained: far positions feel the rounding of angles.
    frequencies = 1 / base ** (torch.arange(0, dimension, 2, device=device).float() / dimension)
    angles = torch.arange(first, first + count, device=device).float()[:, None] * frequencies
    cosine, sine = angles.cos(), angles.sin()
    axis = 2 if style == "pairs" else 1
    cosines, sines = torch.stack((cosine, cosine), axis), torch.stack((-sine, sine), axis)
    return cosines.flatten(1).to(dtype), sines.flatten(1).to(dtype)
