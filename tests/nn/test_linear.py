"""Products with few vectors are products like any other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.linear import Linear, StepLinear, product


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 2), (8,), (9,), (2, 3), (0,), (2, 0), ()])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_linear_map_for_any_number_of_vectors(shape: tuple[int, ...], bias: bool) -> None:
    weight, x = torch.randn(300, 256) / 16, torch.randn(*shape, 256)
    offset = torch.randn(300) if bias else None
    made = product(x, weight, offset)
    assert made.is_contiguous()
    torch.testing.assert_close(made, F.linear(x, weight, offset), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_vectors_may_lie_in_memory_as_they_like() -> None:
    weight, x = torch.randn(300, 256) / 16, torch.randn(1, 256, 2)
    torch.testing.assert_close(product(x.mT, weight), x.mT @ weight.T, atol=1e-5, rtol=1e-5)


def test_it_trains_and_computes_in_other_numbers() -> None:
    part, x = Linear(256, 300), torch.randn(2, 256)
    part(x).sum().backward()
    assert part.weight.grad is not None and part.weight.grad.abs().sum() > 0
    assert part.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
def test_each_step_has_weights_of_its_own() -> None:
    part, x = StepLinear(3, 5, 4), torch.randn(2, 5)
    part.weight.normal_()
    weights = part.weight.clone()
    expected = [x @ weight.T for weight in weights]
    for step in range(3):
        torch.testing.assert_close(part(x, step), expected[step])

    def made(weight: Tensor, bias: Tensor | None) -> torch.nn.Module:
        assert bias is None
        linear = torch.nn.Linear(5, 4, bias=False)
        linear.weight.copy_(2 * weight)
        return linear

    part.pack(made)
    assert not hasattr(part, "weight")
    torch.testing.assert_close(part(x, 1), 2 * expected[1])
