"""ConvNeXt blocks over time (arXiv:2201.03545; audio: arXiv:2306.00814), causal, streaming."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv
from alm_cli.nn.state import State


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, normalisation over features, two linear layers, scaled residual."""

    def __init__(self, dimension: int, hidden: int, kernel: int = 7, scale: float = 1.0) -> None:
        super().__init__()
        self.mix = Conv(dimension, dimension, kernel, groups=dimension)
        self.norm = nn.LayerNorm(dimension)
        self.up = nn.Linear(dimension, hidden)
        self.down = nn.Linear(hidden, dimension)
        self.scale = nn.Parameter(torch.full((dimension,), scale))

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, F, D] -> [B, F, D]."""
        y = self.norm(self.mix(x.mT, state).mT)
        return x + self.scale * self.down(F.gelu(self.up(y)))


class ConvNeXt(nn.Module):
    """A stack of blocks."""

    def __init__(self, depth: int, dimension: int, hidden: int, kernel: int = 7) -> None:
        super().__init__()
        # Small residual branches at first: the stack starts near the identity.
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dimension, hidden, kernel, scale=1 / depth) for _ in range(depth)
        )

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, F, D] -> [B, F, D]."""
        for block in self.blocks:
            x = block(x, state)
        return x
