"""Conformer blocks (arXiv:2005.08100) whose attention knows distances (arXiv:1803.02155)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention
from alm_cli.nn.conv import Conv
from alm_cli.nn.transformer import MLP

# Products of a head at a time: all of a long signal would need memory by the square of its length.
_PRODUCTS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ConformerSpec:
    """The sizes of a stack."""

    features: int  # of its input
    dimension: int
    hidden: int  # of the feed-forward parts
    heads: int
    depth: int
    kernel: int = 31
    left: int = 64  # farther keys than these count as being so far
    right: int = 8


class DistanceAttention(Attention):
    """Attention in which a query also meets a vector for its distance to each key.

    `distances` [left + 1 + right, D] begin with the farthest on the left.
    """

    def __init__(self, dimension: int, heads: int, left: int, right: int) -> None:
        super().__init__(dimension, heads, bias=True)
        self.left = left
        shape = (left + 1 + right, self.head_dimension)
        self.distances = nn.Parameter(torch.randn(shape) * self.head_dimension**-0.5)

    def _collected(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """q, k and v [B, H, S, D] of the same positions -> [B, H, S, D]."""
        assert bias is None, "distances are the only bias"
        return by_distance(q, k, v, self.distances, self.left)


def by_distance(q: Tensor, k: Tensor, v: Tensor, distances: Tensor, left: int) -> Tensor:
    """q, k and v [B, H, S, D] of the same positions -> [B, H, S, D].

    A query also meets one of `distances` [left + 1 + right, D] for each key.
    """
    places = torch.arange(k.shape[2], device=k.device)
    right = len(distances) - left - 1
    step = max(1, _PRODUCTS // k.shape[2])
    parts = []
    for queries, begins in zip(torch.split(q, step, 2), torch.split(places, step), strict=True):
        distance = (places - begins[:, None]).clamp(-left, right) + left
        met = queries @ distances.mT * q.shape[-1] ** -0.5
        met = met.gather(-1, distance.expand(*met.shape[:2], -1, -1))
        parts.append(F.scaled_dot_product_attention(queries, k, v, met))
    return torch.cat(parts, 2)


class ConvModule(nn.Module):
    """A gated linear unit, a causal depthwise convolution, a linear layer; each vector normalised.

    The convolution looks back only, unlike that of the first conformers.
    """

    def __init__(self, dimension: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)
        self.up = nn.Linear(dimension, 2 * dimension, bias=False)
        self.mix = Conv(dimension, dimension, kernel, groups=dimension, bias=False)
        self.mix_norm = nn.LayerNorm(dimension)
        self.down = nn.Linear(dimension, dimension, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, F, D] -> [B, F, D]."""
        y = F.glu(self.up(self.norm(x)))
        y = self.mix_norm(self.mix(y.mT).mT)
        return self.down(F.silu(y))


class ConformerBlock(nn.Module):
    """Half a feed-forward part, attention, convolution, the other half; each added to its input."""

    def __init__(self, spec: ConformerSpec) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, spec.dimension)
        mlp = partial(MLP, spec.dimension, spec.hidden, bias=True, activation=F.silu)
        self.first_norm, self.first = norm(), mlp()
        self.attention_norm = norm()
        self.attention = DistanceAttention(spec.dimension, spec.heads, spec.left, spec.right)
        self.convolution = ConvModule(spec.dimension, spec.kernel)
        self.second_norm, self.second = norm(), mlp()
        self.norm = norm()

    def forward(self, x: Tensor) -> Tensor:
        """x [B, F, D] -> [B, F, D]."""
        x = x + 0.5 * self.first(self.first_norm(x))
        x = x + self.attention(self.attention_norm(x))
        x = x + self.convolution(x)
        x = x + 0.5 * self.second(self.second_norm(x))
        return self.norm(x)


class Conformer(nn.Module):
    """Features, normalised and projected, through a stack of blocks."""

    def __init__(self, spec: ConformerSpec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.features)
        self.project = nn.Linear(spec.features, spec.dimension)
        self.blocks = nn.ModuleList(ConformerBlock(spec) for _ in range(spec.depth))

    def forward(self, x: Tensor, depth: int | None = None) -> Tensor:
        """x [B, F, features] -> [B, F, D], what the first `depth` blocks make of it, or all."""
        x = self.project(self.norm(x))
        for block in islice(self.blocks, depth):
            x = block(x)
        return x
