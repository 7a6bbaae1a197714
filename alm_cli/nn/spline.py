"""Monotonic curves made of rational quadratic pieces (neural spline flows, arXiv:1906.04032)."""

from __future__ import annotations

from math import exp, log

import torch
from torch import Tensor
from torch.nn import functional as F

# No piece is narrower, flatter or less steep than this.
_LEAST = 1e-3


def unbent(y: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, bound: float) -> Tensor:
    """y [...] -> x [...], what the curve bends to y; beyond -bound..bound it is the diagonal.

    widths and heights [..., K] of its pieces and slopes [..., K - 1] between them are as a network
    says them, before they are brought to their ranges.
    """
    across, up = _edges(widths, bound), _edges(heights, bound)
    # At both ends the curve is as steep as the diagonal that it meets there.
    flat = log(exp(1 - _LEAST) - 1)
    steep = _LEAST + F.softplus(F.pad(slopes, (1, 1), value=flat))
    inner = torch.cat((up[..., :-1], up[..., -1:] + 1e-6), -1)
    piece = (y[..., None] >= inner).sum(-1, keepdim=True) - 1
    piece = piece.clamp(0, widths.shape[-1] - 1)

    def of(values: Tensor) -> Tensor:
        return values.gather(-1, piece)[..., 0]

    width, height = of(across.diff()), of(up.diff())
    slope, after = of(steep), of(steep[..., 1:])
    mean = of(up.diff() / across.diff())
    above = y - of(up)
    curve = above * (slope + after - 2 * mean)
    a = height * (mean - slope) + curve
    b = height * slope - curve
    c = -mean * above
    root = 2 * c / (-b - torch.sqrt((b.square() - 4 * a * c).clamp_min(0)))
    x = root * width + of(across)
    return x.where((y >= -bound) & (y <= bound), y)


def _edges(sizes: Tensor, bound: float) -> Tensor:
    """sizes [..., K] -> where pieces begin and end [..., K + 1], from -bound to bound."""
    pieces = sizes.shape[-1]
    shares = _LEAST + (1 - _LEAST * pieces) * sizes.softmax(-1)
    edges = 2 * bound * F.pad(shares.cumsum(-1), (1, 0)) - bound
    edges[..., 0], edges[..., -1] = -bound, bound
    return edges
