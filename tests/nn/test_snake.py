"""Snake and the stages made with it: the reference's arithmetic to the last bit, and the laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.snake import Snake, snake_down, snake_unit, snake_up
from alm_cli.nn.state import State
from tests.laws import streaming_equals_whole


def snake(width: int) -> Snake:
    """One with an alpha of its own for each feature."""
    part = Snake(width).requires_grad_(False)
    part.alpha.copy_(torch.linspace(0.05, 3, width).view(1, -1, 1))
    return part


def slow(x: Tensor, alpha: Tensor) -> Tensor:
    """The formula, in the order of the references."""
    return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)


@pytest.mark.parametrize("shape", [(1, 6, 1), (2, 6, 7), (1, 64, 1001), (3, 6, 0)])
def test_it_is_the_formula_to_the_last_bit(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 4
    kept, part = x.clone(), snake(shape[1])
    assert torch.equal(part(x), slow(x, part.alpha))
    assert torch.equal(x, kept), "the input is somebody's residual"


def test_an_alpha_of_zero_is_the_identity() -> None:
    part = Snake(2).requires_grad_(False)
    part.alpha.zero_()
    x = torch.randn(1, 2, 9)
    assert torch.equal(part(x), x)


def test_it_can_be_trained() -> None:
    part, x = Snake(3), torch.randn(1, 3, 5, requires_grad=True)
    part(x).sum().backward()
    assert part.alpha.grad is not None and x.grad is not None
    alpha = part.alpha.detach()
    slope = 1 + torch.sin(2 * alpha * x.detach())
    torch.testing.assert_close(x.grad, slope)


def test_reduced_numbers_stay_reduced() -> None:
    x = torch.randn(1, 4, 50)
    y = snake(4)(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), snake(4)(x), atol=0.1, rtol=0.05)


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
def test_stages_shorten_and_lengthen_and_stream(stride: int) -> None:
    down, up = snake_down(4, stride), snake_up(8, stride)
    x = torch.randn(1, 4, 40 * stride)
    y = down(x)
    assert y.shape == (1, 8, 40) and up(y).shape == x.shape
    odd = snake_up(8, stride, right=-(-stride // 2))
    assert odd(y).shape[2] == 40 * stride - stride % 2
    for part, signal, size in ((down, x, 3 * stride), (up, y, 3), (odd, y, 7)):
        streaming_equals_whole(part, signal, list(range(size, signal.shape[2], size)))


@torch.no_grad()
def test_units_see_their_own_features_only_where_they_are_grouped() -> None:
    unit = snake_unit(4, 3, groups=4)
    assert unit.first.weight.shape == (4, 1, 7)
    unit.second.weight.copy_(torch.eye(4)[..., None])
    x = torch.randn(1, 4, 30)
    changed = x.clone()
    changed[:, 0] += 1
    assert torch.equal(unit(changed)[:, 1:], unit(x)[:, 1:])


def test_a_stage_takes_noise_between_the_way_up_and_its_units() -> None:
    class Same(torch.nn.Module):
        """Changes nothing, and can be recognised."""

        def forward(self, x: Tensor, state: State | None = None) -> Tensor:  # noqa: ARG002
            return x

    plain, noisy = snake_up(8, 2), snake_up(8, 2, noise=Same())
    assert len(noisy) == len(plain) + 1 and isinstance(noisy[2], Same)
