"""Attention whose near keys and values are moved by how far they lie (arXiv:1803.02155, VITS)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention


class NearAttention(Attention):
    """Attention to a whole sequence that tells the `window` positions on either side apart.

    To their keys and values a vector for the distance is added, for all heads the same; beyond the
    window nothing is.
    """

    def __init__(self, dimension: int, heads: int, window: int, *, bias: bool = True) -> None:
        super().__init__(dimension, heads, bias=bias)
        self.near = window
        shape = (2 * window + 1, self.head_dimension)
        self.near_keys = nn.Parameter(torch.randn(shape) * self.head_dimension**-0.5)
        self.near_values = nn.Parameter(torch.randn(shape) * self.head_dimension**-0.5)

    def _collected(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """q, k and v [B, H, S, D] of the same positions -> [B, H, S, D]."""
        assert bias is None, "distances are the only bias"
        places = torch.arange(k.shape[2], device=k.device)
        q = q * self.head_dimension**-0.5
        distance = places - places[:, None]
        # One more place than there are vectors: what lies beyond the window meets a zero there.
        place = (distance + self.near).where(distance.abs() <= self.near, 2 * self.near + 1)
        met = F.pad(q @ self.near_keys.mT, (0, 1))
        scores = q @ k.mT + met.gather(-1, place.expand(*met.shape[:2], -1, -1))
        weights = scores.softmax(-1)
        around = places[:, None] + torch.arange(-self.near, self.near + 1, device=k.device)
        inside = (around >= 0) & (around < len(places))
        index = around.clamp(0, len(places) - 1).expand(*met.shape[:2], -1, -1)
        return weights @ v + (weights.gather(-1, index) * inside) @ self.near_values
