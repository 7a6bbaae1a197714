"""Features to units: the nearest of the centroids that k-means found (HuBERT, arXiv:2106.07447)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Centroids(nn.Module):
    """V vectors of D features, `vectors` [V, D]; a unit is the index of the nearest one.

    The search is scikit-learn's: in the centroids' own number type the least |c|^2 - 2 x.c, of
    equal ones the first. What rounding alone decides, it decides by another order of summation.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)

    def encode(self, x: Tensor) -> Tensor:
        """x [B, F, D] -> units [B, F] int64."""
        table = self.vectors
        rows = x.reshape(-1, x.shape[-1]).to(table.dtype)
        with torch.autocast(x.device.type, enabled=False):
            distance = torch.addmm(table.pow(2).sum(1), rows, table.mT, alpha=-2)
        return distance.min(1).indices.view(x.shape[:-1])
