"""Positions by spectra against the convolution that they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alm_cli.nn.conv_position import ConvPosition, spectrum_size, weight_spectrum
from tests.laws import batch_equals_single


@torch.no_grad()
def filled(kernel: int, groups: int = 3, norm: nn.Module | None = None) -> ConvPosition:
    torch.manual_seed(kernel)
    part = ConvPosition(12, kernel, groups, norm)
    weight = torch.randn(12, 12 // groups, kernel) / kernel**0.5
    part.spectrum.copy_(weight_spectrum(weight))
    part.bias.copy_(torch.randn(12))
    part.weight = weight
    return part.eval()


@pytest.mark.parametrize("kernel", [1, 2, 5, 16, 17, 128])
@torch.no_grad()
def test_it_is_the_centred_convolution_without_its_last(kernel: int) -> None:
    part = filled(kernel)
    step = spectrum_size(kernel) - kernel + 1
    for length in (1, 2, step - 1, step, step + 1, 3 * step + 1):
        x = torch.randn(2, length, 12)
        sums = F.conv1d(x.mT, part.weight, part.bias, padding=kernel // 2, groups=3)
        expected = F.gelu(sums[..., :length].mT)
        torch.testing.assert_close(part(x), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_comes_before_is_normalised_and_the_ends_are_zeros_after_that() -> None:
    norm = nn.BatchNorm1d(12)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    part, x = filled(16, norm=norm), torch.randn(1, 20, 12)
    sums = F.conv1d(norm(x.mT), part.weight, part.bias, padding=8, groups=3)[..., :20]
    torch.testing.assert_close(part(x), F.gelu(sums.mT), atol=1e-5, rtol=0)


def test_a_row_does_not_see_its_neighbours() -> None:
    part = filled(16, groups=1)
    batch_equals_single(lambda x, _: part(x.mT).mT, torch.randn(3, 12, 50))
