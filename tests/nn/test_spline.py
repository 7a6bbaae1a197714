"""Splines bent back: the inverse of the curve as the paper writes it, and the diagonal outside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.spline import unbent


def bent(x: float, widths: Tensor, heights: Tensor, slopes: Tensor, bound: float) -> float:
    """The curve at x (arXiv:1906.04032, equations 4 to 6), for one number."""
    if abs(x) > bound:
        return x
    count = len(widths)
    edges = []
    for sizes in (widths, heights):
        shares = 1e-3 + (1 - 1e-3 * count) * sizes.softmax(0)
        edges.append(2 * bound * F.pad(shares.cumsum(0), (1, 0)) - bound)
    across, up = (edge.tolist() for edge in edges)
    steep = [1.0, *(1e-3 + F.softplus(slopes)).tolist(), 1.0]
    k = next(k for k in range(count) if x <= across[k + 1] + 1e-9)
    width, height = across[k + 1] - across[k], up[k + 1] - up[k]
    mean, part = height / width, (x - across[k]) / width
    over = height * (mean * part**2 + steep[k] * part * (1 - part))
    return up[k] + over / (mean + (steep[k + 1] + steep[k] - 2 * mean) * part * (1 - part))


@pytest.mark.parametrize("bound", [1.0, 5.0])
def test_what_is_bent_comes_back(bound: float) -> None:
    generator = torch.Generator().manual_seed(1)
    options = {"generator": generator, "dtype": torch.float64}
    x = torch.cat((torch.linspace(-1.4 * bound, 1.4 * bound, 57), torch.tensor([bound, -bound])))
    widths, heights = (torch.randn(len(x), 6, **options) * 2 for _ in range(2))
    slopes = torch.randn(len(x), 5, **options) * 2
    rows = zip(x.double().tolist(), widths, heights, slopes, strict=True)
    y = torch.tensor([bent(*row, bound) for row in rows], dtype=torch.float64)
    assert float((y - x).abs().max()) > 0.1 * bound
    back = unbent(y, widths, heights, slopes, bound)
    torch.testing.assert_close(back, x.double(), atol=2e-5, rtol=0)
    outside = x.abs() > bound
    assert torch.equal(back[outside], x.double()[outside])
