"""Products with few vectors are products like any other."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from alm_cli.nn.linear import Linear, product


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
