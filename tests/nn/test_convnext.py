"""Laws of the ConvNeXt stack."""

from __future__ import annotations

from functools import partial

import torch

from alm_cli.nn.convnext import ConditionedNorm, ConvNeXt, ConvNeXtBlock
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


@torch.no_grad()
def test_centred_blocks_owe_what_they_look_ahead_to() -> None:
    torch.manual_seed(0)
    part = ConvNeXt(3, 16, 48, block=partial(ConvNeXtBlock, causal=False))
    for frames in (1, 2, 9, 20):
        x, state, made = torch.randn(2, frames, 16), State(), []
        pieces = x.split(2, 1)
        for index, piece in enumerate(pieces, 1):
            state.last = index == len(pieces)
            made.append(part(piece, state))
        torch.testing.assert_close(torch.cat(made, 1), part(x), atol=1e-6, rtol=0)
    assert part(torch.randn(1, 20, 16), State()).shape[1] == 20 - 3 * 3


@torch.no_grad()
def test_a_condition_chooses_scale_and_shift() -> None:
    norm, x = ConditionedNorm(3, 8), torch.randn(2, 5, 8)
    plain = torch.nn.functional.layer_norm(x, (8,), eps=1e-6)
    torch.testing.assert_close(norm(x, 1), plain, atol=1e-6, rtol=0)
    norm.scale.normal_()
    norm.shift.normal_()
    torch.testing.assert_close(norm(x, 2), plain * norm.scale[2] + norm.shift[2])
    block = ConvNeXtBlock(8, 16, norm=partial(ConditionedNorm, 3))
    block.norm.shift.normal_()
    assert not torch.allclose(block(x, None, 0), block(x, None, 1))
