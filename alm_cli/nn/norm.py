"""Normalisation and scaling of features, where torch has no part for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Adds a branch to its input with a factor for every feature, small at first.

    So deep stacks begin near the identity (arXiv:2103.17239).
    """

    def __init__(self, dimension: int, scale: float = 0.01) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dimension,), scale))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """x, branch [..., D] -> [..., D]."""
        return torch.addcmul(x, branch, self.scale)
