"""Whole signals driven in blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.conv import Conv
from alm_cli.nn.state import State


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 4, 8, 9, 31])
def test_blocks_give_what_one_call_gives(length: int) -> None:
    conv, x = Conv(2, 3, 4, stride=2), torch.randn(3, 2, length)
    torch.testing.assert_close(in_blocks(conv, x, 8), conv(x), atol=1e-6, rtol=0)


def test_rows_are_driven_alone_and_only_the_end_is_called_last() -> None:
    calls: list[tuple[tuple[int, ...], bool]] = []

    def step(x: Tensor, state: State) -> Tensor:
        calls.append((tuple(x.shape), state.last))
        return x

    x = torch.randn(2, 1, 10)
    assert torch.equal(in_blocks(step, x, 4), x)
    row = [((1, 1, 4), False), ((1, 1, 4), False), ((1, 1, 2), True)]
    assert calls == row * 2
