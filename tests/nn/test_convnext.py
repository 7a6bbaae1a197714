"""Laws of the ConvNeXt stack."""

from __future__ import annotations

import torch

from alm_cli.nn.convnext import ConvNeXt
from alm_cli.nn.state import State


def stack() -> ConvNeXt:
    torch.manual_seed(0)
    return ConvNeXt(3, 16, 48)


@torch.no_grad()
def test_any_chunking_equals_the_whole() -> None:
    part, x, state = stack(), torch.randn(2, 20, 16), State()
    pieces = [part(piece, state) for piece in x.split([1, 2, 9, 8], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), part(x), atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_past_does_not_change_when_the_future_arrives() -> None:
    part, x = stack(), torch.randn(1, 20, 16)
    changed = torch.cat([x[:, :12], torch.randn(1, 8, 16)], 1)
    torch.testing.assert_close(part(x)[:, :12], part(changed)[:, :12], atol=1e-6, rtol=0)
    assert not torch.allclose(part(x)[:, 12:], part(changed)[:, 12:])


@torch.no_grad()
def test_a_row_does_not_see_its_neighbours() -> None:
    part, x = stack(), torch.randn(3, 20, 16)
    torch.testing.assert_close(part(x)[1:2], part(x[1:2]), atol=1e-6, rtol=0)
