"""ConvNeXt blocks over time (arXiv:2201.03545; audio: arXiv:2306.00814), causal or centred."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv
from alm_cli.nn.state import State


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, normalisation over features, two linear layers, scaled residual."""

    def __init__(
        self,
        dimension: int,
        hidden: int,
        kernel: int = 7,
        scale: float = 1.0,
        *,
        causal: bool = True,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.mix = Conv(dimension, dimension, kernel, groups=dimension, causal=causal)
        self.norm = norm(dimension)
        self.up = nn.Linear(dimension, hidden)
        self.down = nn.Linear(hidden, dimension)
        self.scale = nn.Parameter(torch.full((dimension,), scale))

    def forward(
        self, x: Tensor, state: State | None = None, condition: int | None = None
    ) -> Tensor:
        """x [B, F, D] -> [B, F, D]; `condition` is for a norm that takes one."""
        y = self.mix(x.mT, state).mT
        y = self.norm(y) if condition is None else self.norm(y, condition)
        y = self.scale * self.down(F.gelu(self.up(y)))
        # A centred convolution gives less than it was given until the stream ends.
        return y + (x if state is None else state.aligned(self, x.mT, y.shape[1]).mT)


class ConvNeXt(nn.Module):
    """A stack of blocks."""

    def __init__(
        self,
        depth: int,
        dimension: int,
        hidden: int,
        kernel: int = 7,
        block: Callable[..., nn.Module] = ConvNeXtBlock,
    ) -> None:
        super().__init__()
        # Small residual branches at first: the stack starts near the identity.
        self.blocks = nn.ModuleList(
            block(dimension, hidden, kernel, scale=1 / depth) for _ in range(depth)
        )

    def forward(
        self, x: Tensor, state: State | None = None, condition: int | None = None
    ) -> Tensor:
        """x [B, F, D] -> [B, F, D]."""
        for block in self.blocks:
            x = block(x, state, condition)
        return x


class ConditionedNorm(nn.Module):
    """Normalisation over features with a scale and a shift for each of some conditions."""

    def __init__(self, conditions: int, dimension: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(conditions, dimension))
        self.shift = nn.Parameter(torch.zeros(conditions, dimension))

    def forward(self, x: Tensor, condition: int) -> Tensor:
        """x [B, F, D] -> [B, F, D]."""
        x = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return x * self.scale[condition] + self.shift[condition]
