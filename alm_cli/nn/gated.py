"""Attention that knows distances, each query as much as it wants (WavLM, arXiv:2110.13900)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention
from alm_cli.nn.state import State

# The biases of all queries for all keys of a long signal would not fit.
_QUERIES = 128


class RelativeBias(nn.Module):
    """A number for every head and distance; far distances share buckets (arXiv:1910.10683)."""

    def __init__(self, heads: int, buckets: int, furthest: int) -> None:
        super().__init__()
        self.furthest = furthest
        self.weight = nn.Parameter(torch.zeros(buckets, heads))

    def forward(self, length: int) -> Tensor:
        """[H, 2 S - 1] for a sequence of S: from the key S - 1 before a query to that after it."""
        distances = torch.arange(1 - length, length, device=self.weight.device)
        return F.embedding(self._buckets(distances), self.weight).mT

    def _buckets(self, distances: Tensor) -> Tensor:
        """distances [N] -> buckets [N]: half of them for keys that come after the query.

        Half of each half is for single distances, the rest grow with the logarithm.
        """
        half = self.weight.shape[0] // 2
        single = half // 2
        far = distances.abs()
        # In float32 and in this order: rounding decides where a bucket ends.
        grown = torch.log(far.float() / single) / math.log(self.furthest / single)
        grown = (single + grown * (half - single)).to(torch.int64).clamp_max(half - 1)
        return torch.where(far < single, far, grown) + half * (distances > 0)


class GatedAttention(Attention):
    """Attention to a whole sequence with `RelativeBias`, scaled for each query by a gate."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__(dimension, heads, bias=True)
        self.gate = nn.Linear(self.head_dimension, 8)
        self.gate_scale = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        state: State | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """x [B, S, D], bias [H, 2 S - 1] of `RelativeBias` -> [B, S, D]."""
        assert memory is None and state is None and bias is not None, "a sequence at a time"
        q, k, v = self._heads(self.q(x)), self._heads(self.k(x)), self._heads(self.v(x))
        # Of queries in reverse order the biases are windows of one row of numbers.
        q, gates = q.flip(2), self._gates(x).flip(2)
        windows = bias.contiguous().unfold(1, x.shape[1], 1)
        parts = []
        for begin in range(0, x.shape[1], _QUERIES):
            now = slice(begin, begin + _QUERIES)
            added = (gates[:, :, now] * windows[:, now]).to(q.dtype)
            parts.append(F.scaled_dot_product_attention(q[:, :, now], k, v, added))
        return self.out(torch.cat(parts, 2).flip(2).transpose(1, 2).flatten(2))

    def _gates(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> how much of the bias each query takes [B, H, S, 1]."""
        sums = self.gate(self._heads(x)).unflatten(-1, (2, 4)).sum(-1, keepdim=True)
        reset, update = torch.sigmoid(sums).unbind(-2)
        return reset * (update * self.gate_scale - 1) + 2
