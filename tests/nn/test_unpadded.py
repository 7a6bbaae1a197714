"""Networks without padding against torch's own convolutions, and their lengths against runs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.snake import Snake, snake_down, snake_unit, snake_up
from alm_cli.nn.stack import Chain
from alm_cli.nn.unpadded import needed_length, unpadded, unpadded_length


@torch.no_grad()
def test_convolutions_lose_what_their_padding_was_for() -> None:
    conv, x = Conv(2, 3, 5, stride=2, dilation=3, causal=False), torch.randn(1, 2, 40)
    slow = F.conv1d(x, conv.weight, conv.bias, stride=2, dilation=3)
    assert torch.equal(unpadded(conv, x), slow)
    up = ConvTranspose(2, 3, 6, stride=3, causal=False)
    slow = F.conv_transpose1d(x, up.weight, up.bias, stride=3)
    assert torch.equal(unpadded(up, x), slow)


@torch.no_grad()
def test_where_windows_are_full_the_padding_did_not_matter() -> None:
    unit, x = snake_unit(4, 9), torch.randn(1, 4, 100)
    assert unpadded(unit, x).shape == (1, 4, 46)
    torch.testing.assert_close(unpadded(unit, x), unit(x)[..., 27:-27])
    activation = Snake(4)
    assert torch.equal(unpadded(activation, x), activation(x))


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 3, 5])
def test_lengths_are_those_of_a_run(stride: int) -> None:
    parts = Chain(snake_down(2, stride), Conv(4, 4, 3, causal=False), snake_up(4, stride))
    least = needed_length(parts, 1)
    for length in range(least, least + 3 * stride):
        made = unpadded(parts, torch.zeros(1, 2, length)).shape[2]
        assert made == unpadded_length(parts, length) >= 1
    assert unpadded_length(parts, least - 1) < 1
    for wanted in (1, 2, 17):
        needed = needed_length(parts, wanted)
        assert unpadded_length(parts, needed) >= wanted > unpadded_length(parts, needed - 1)
