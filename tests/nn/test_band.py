"""Attention to what lies near equals attention to all, with the rest hidden."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.band import BandAttention


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 5, 127, 128, 129, 300])
@pytest.mark.parametrize("reach", [0, 1, 5, 140, 1000])
def test_a_band_is_all_with_the_rest_hidden(length: int, reach: int) -> None:
    torch.manual_seed(length)
    part = BandAttention(8, 2).eval()
    x = torch.randn(2, length, 8)
    places = torch.arange(length)
    hidden = torch.zeros(length, length)
    hidden.masked_fill_((places[:, None] - places).abs() > reach, -torch.inf)
    wanted = part(x, bias=hidden[None, None])
    torch.testing.assert_close(part.within(x, reach), wanted, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_without_a_reach_it_sees_everything() -> None:
    torch.manual_seed(0)
    part, x = BandAttention(8, 2).eval(), torch.randn(2, 200, 8)
    torch.testing.assert_close(part.within(x, None), part(x), atol=1e-6, rtol=1e-5)
