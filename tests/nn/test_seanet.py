"""What SEANet is made of: residual units, and norms over time."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv
from alm_cli.nn.recurrent import ResidualLSTM
from alm_cli.nn.seanet import NormedConv, NormedConvTranspose, seanet_parts
from alm_cli.nn.stack import ConvEncoder, StackSpec
from tests.laws import batch_equals_single


@torch.no_grad()
def test_a_unit_is_two_activated_convolutions_and_a_skip() -> None:
    for convolved in (True, False):
        parts = seanet_parts(
            context=partial(ResidualLSTM, layers=1), compress=4, convolved_skip=convolved
        )
        unit, x = parts.unit(8, 2), torch.randn(1, 8, 20)
        y = unit.second(F.elu(unit.first(F.elu(x))))
        y = y + (unit.skip(x) if convolved else x)
        torch.testing.assert_close(unit(x), y, atol=1e-6, rtol=0)
        assert unit.first.weight.shape == (2, 8, 3) and unit.first.dilation == 2


def test_parts_may_be_others() -> None:
    parts = seanet_parts(
        context=lambda _: nn.Identity(), conv=partial(Conv, causal=False), kernel=5
    )
    assert parts.unit(8, 1).first.right == 2 and parts.unit(8, 1).first.padding == "zeros"
    spec = StackSpec(channels=1, width=4, features=8, ratios=(2,))
    assert isinstance(ConvEncoder(spec, parts)[4], nn.Identity)


@torch.no_grad()
def test_a_normed_convolution_has_zero_mean_and_unit_variance_over_all_of_time() -> None:
    part = NormedConv(2, 6, 4, stride=2, causal=False, padding="reflect")
    x = torch.randn(3, 2, 41) * 7 + 3
    y = part(x)
    torch.testing.assert_close(y.mean((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((1, 2), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    batch_equals_single(part, x)
    changed = x.clone()
    changed[..., -1] += 5
    assert not torch.equal(part(changed)[..., :5], y[..., :5])


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 5])
def test_a_normed_transposed_one_trims_after_the_norm(stride: int) -> None:
    part, x = NormedConvTranspose(6, 3, 2 * stride, stride=stride), torch.randn(2, 6, 9)
    full = part.norm(F.conv_transpose1d(x, part.weight, part.bias, stride))
    left, right = stride - stride // 2, stride // 2
    torch.testing.assert_close(part(x), full[..., left:-right], atol=1e-5, rtol=0)
    assert part(x).shape == (2, 3, 9 * stride)
