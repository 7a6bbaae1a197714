"""Attention to what lies near, before and after (arXiv:2401.04577, 2004.05150)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.attention import Attention

# Queries that go together: few enough to save products, enough to fill the machine.
_QUERIES = 128


class BandAttention(Attention):
    """Attention to a whole sequence, or to those at most `reach` positions away."""

    def within(self, x: Tensor, reach: int | None) -> Tensor:
        """x [B, S, D] -> [B, S, D]; without a `reach`, from everywhere."""
        q, k, v = self._projected(x, None, 0)
        y = F.scaled_dot_product_attention(q, k, v) if reach is None else _near(q, k, v, reach)
        return self.out(y.transpose(1, 2).flatten(2))


def _near(q: Tensor, k: Tensor, v: Tensor, reach: int) -> Tensor:
    """q, k and v [B, H, S, D] -> [B, H, S, D]; only the products near the diagonal are made."""
    length = q.shape[2]
    places = torch.arange(length, device=q.device)
    parts = []
    for begin in range(0, length, _QUERIES):
        asking = slice(begin, min(begin + _QUERIES, length))
        seen = slice(max(0, begin - reach), min(asking.stop + reach, length))
        near = (places[asking, None] - places[seen]).abs() <= reach
        parts.append(
            F.scaled_dot_product_attention(q[:, :, asking], k[:, :, seen], v[:, :, seen], near)
        )
    return torch.cat(parts, 2)
