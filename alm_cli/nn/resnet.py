"""Residual blocks of convolutions over time (arXiv:1512.03385, as in arXiv:2012.09841)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv


class ResNetBlock(nn.Module):
    """Two convolutions of activated features, added to their input.

    Features are normalised in groups and over all time, so the block must see a signal whole.
    """

    def __init__(self, dimension: int, kernel: int = 3, *, groups: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = (
            nn.GroupNorm(groups, dimension, eps=1e-6) for _ in range(2)
        )
        self.first, self.second = (
            Conv(dimension, dimension, kernel, causal=False) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, D, F] -> [B, D, F]."""
        y = self.first(F.silu(self.first_norm(x)))
        return x + self.second(F.silu(self.second_norm(y)))
