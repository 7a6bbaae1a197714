"""Rotary position against rotations written out, and the law it exists for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from alm_cli.nn.position import Rotary, Stretch, Style

STYLES: tuple[Style, ...] = ("halves", "pairs")


def turned(x: Tensor, style: Style, base: float, begin: int) -> Tensor:
    """x [B, H, S, D], feature by feature."""
    y, dimension = torch.empty_like(x), x.shape[-1]
    for place in range(x.shape[2]):
        for index in range(dimension // 2):
            angle = (begin + place) / base ** (2 * index / dimension)
            pairs = (2 * index, 2 * index + 1)
            first, second = pairs if style == "pairs" else (index, index + dimension // 2)
            a, b = x[:, :, place, first], x[:, :, place, second]
            y[:, :, place, first] = a * math.cos(angle) - b * math.sin(angle)
            y[:, :, place, second] = a * math.sin(angle) + b * math.cos(angle)
    return y


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("begin", [0, 7])
def test_features_are_turned_two_by_two(style: Style, begin: int) -> None:
    x = torch.randn(2, 3, 5, 8)
    expected = turned(x, style, 100.0, begin)
    torch.testing.assert_close(Rotary(style, 100.0)(x, begin), expected, atol=1e-5, rtol=0)


def test_the_styles_are_one_rotation_of_reordered_features() -> None:
    """A checkpoint of one style is one of the other with permuted query and key rows."""
    x = torch.randn(1, 2, 6, 10)
    order = torch.arange(10).view(5, 2).T.flatten()
    halves, pairs = Rotary("halves")(x[..., order]), Rotary("pairs")(x)
    torch.testing.assert_close(halves, pairs[..., order], atol=1e-6, rtol=0)
    assert not torch.allclose(Rotary("halves")(x), pairs)


@pytest.mark.parametrize("style", STYLES)
def test_products_depend_on_the_distance_only(style: Style) -> None:
    q, k = torch.randn(2, 1, 1, 1, 16)
    rotary = Rotary(style)
    near = rotary(q, 9) @ rotary(k, 4).mT
    far = rotary(q, 5009) @ rotary(k, 5004).mT
    torch.testing.assert_close(near, far, atol=1e-2, rtol=0)
    assert not torch.allclose(near, rotary(q, 9) @ rotary(k, 5).mT, atol=1e-2)


@pytest.mark.parametrize("style", STYLES)
def test_a_stream_goes_on_where_it_was(style: Style) -> None:
    x, rotary = torch.randn(2, 2, 9, 4), Rotary(style)
    parts = torch.cat((rotary(x[:, :, :4]), rotary(x[:, :, 4:], 4)), 2)
    torch.testing.assert_close(parts, rotary(x), atol=1e-6, rtol=0)


def test_what_is_kept_between_calls_serves_training_too() -> None:
    rotary = Rotary("pairs", 77.0)
    with torch.inference_mode():
        rotary(torch.randn(1, 1, 3, 4))
    x = torch.randn(1, 1, 3, 4, requires_grad=True)
    rotary(x).square().sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("style", STYLES)
def test_rows_may_stand_at_positions_of_their_own(style: Style) -> None:
    x, rotary = torch.randn(3, 2, 4, 8), Rotary(style, 100.0)
    begins = (0, 1021, 7)
    rows = [rotary(row, begin) for row, begin in zip(x.split(1), begins, strict=True)]
    assert torch.equal(rotary(x, begins), torch.cat(rows))


def test_slow_turns_are_slowed_down_and_fast_ones_kept() -> None:
    """Llama 3.1: the longest wave is 8 times as long, the shortest as it was, others between."""
    stretch = Stretch(factor=8.0, low=1.0, high=4.0, length=100.0)
    waves = torch.tensor([2.0, 24.9, 40.0, 100.1, 5000.0])
    stretched = 2 * math.pi / stretch(2 * math.pi / waves)
    assert stretched[:2].tolist() == pytest.approx([2.0, 24.9])
    assert stretched[3:].tolist() == pytest.approx([800.8, 40_000.0])
    assert 40.0 < stretched[2] < 320.0
    x = torch.randn(1, 1, 1, 4)
    plain, slow = Rotary("halves", 1e6), Rotary("halves", 1e6, stretch)
    assert torch.equal(plain(x, 9)[..., ::2], slow(x, 9)[..., ::2]), "one turn in 6 positions"
    assert not torch.equal(plain(x, 900)[..., 1::2], slow(x, 900)[..., 1::2])
