"""Weights of 8 bits that are computed with in float32."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from alm_cli.nn.rounded import RoundedEmbedding, RoundedLinear


def test_a_product_is_that_of_the_rounded_weights() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(6, 16), torch.randn(6), torch.randn(2, 3, 16)
    weight[3] = 0
    for given in (bias, None):
        made = RoundedLinear(weight, given)
        rounded = made.weight.float() * made.scales[:, None]
        assert (rounded - weight).abs().max() <= made.scales.max() / 2 + 1e-7
        torch.testing.assert_close(made(x), F.linear(x, rounded, given), atol=1e-5, rtol=0)
    assert made.weight.dtype == torch.int8


def test_vectors_of_different_sizes_are_equally_near() -> None:
    table = torch.randn(5, 8) * torch.tensor([1e-3, 1.0, 1e3, 0.0, 10.0])[:, None]
    found = RoundedEmbedding(table)(torch.arange(5).view(1, 5))[0]
    assert found.shape == (5, 8)
    error = (found - table).abs().amax(1)
    assert bool((error <= table.abs().amax(1) / 254 + 1e-9).all())
