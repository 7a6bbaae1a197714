"""Finite scalar quantisation: every number of a vector is rounded to one of a few levels.

arXiv:2309.15505. No codebook is learned; the code is the number whose digits are the levels.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor, nn

# By how much the outermost levels may be overshot, so that training never meets a flat slope.
_SLACK = 1e-3


class FSQ(nn.Module):
    """Vectors of D numbers <-> codes below `vocabulary`, the product of the D `levels`.

    The first number is the least significant digit. All is done in float32 whatever the model
    computes in: codes are the product, and a rounded number is another code.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if min(levels) < 2:
            raise ValueError("one level says nothing")
        self.levels = levels
        self.vocabulary = prod(levels)

    def bound(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D] float32, squashed to the range of the levels, which are integers.

        An odd number of levels lies around 0, an even one around -1/2.
        """
        grid = _grid(self.levels, x.device)
        return (x.float() + grid.shift).tanh() * grid.range - grid.offset

    def encode(self, x: Tensor) -> Tensor:
        """x [..., D] -> codes [...] int64; halves are rounded to even."""
        grid = _grid(self.levels, x.device)
        return ((self.bound(x).round().long() + grid.half) * grid.basis).sum(-1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [...] -> [..., D] float32, from -1 to at most 1."""
        grid = _grid(self.levels, codes.device)
        digits = codes[..., None] // grid.basis % grid.levels
        return (digits - grid.half) / grid.half


class _Grid:
    """What follows from the levels, each [D]."""

    def __init__(self, levels: tuple[int, ...], device: torch.device) -> None:
        self.levels = torch.tensor(levels, device=device)
        self.half = self.levels // 2
        self.basis = torch.tensor([prod(levels[:i]) for i in range(len(levels))], device=device)
        self.range = (self.levels - 1) * (1 + _SLACK) / 2
        self.offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        self.shift = (self.offset / self.range).atanh()


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _grid(levels: tuple[int, ...], device: torch.device) -> _Grid:
    return _Grid(levels, device)
