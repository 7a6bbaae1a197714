"""The Snake activation and the stages of a codec that are made with it (arXiv:2006.08195)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.stack import Chain, ResidualUnit
from alm_cli.nn.state import State

DILATIONS = (1, 3, 9)


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha, with an alpha for each feature: periodic, and never falling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:  # noqa: ARG002
        """x [B, C, T] -> [B, C, T]."""
        alpha = self.alpha.to(x.dtype)
        # In the order of the reference, so bit for bit its result, but in one piece of memory:
        # each new one costs more than the arithmetic in it.
        slope = (alpha + 1e-9).reciprocal()
        if torch.is_grad_enabled() and (x.requires_grad or alpha.requires_grad):
            return x + slope * torch.sin(alpha * x).pow(2)
        y = (alpha * x).sin_()
        return y.mul_(y).mul_(slope).add_(x)


def snake_unit(width: int, dilation: int, groups: int = 1) -> ResidualUnit:
    """The residual unit of DAC: a wide convolution and a pointwise one (arXiv:2306.06546)."""
    first = Conv(width, width, 7, dilation=dilation, groups=groups, causal=False)
    return ResidualUnit(Snake(width), first, Snake(width), Conv(width, width, 1, causal=False))


def snake_down(width: int, stride: int, groups: int = 1) -> Chain:
    """Units, then fewer steps of more features: [B, C, T] -> [B, 2 C, T / stride]."""
    units = (snake_unit(width, dilation, groups) for dilation in DILATIONS)
    down = Conv(width, 2 * width, 2 * stride, stride=stride, causal=False)
    return Chain(*units, Snake(width), down)


def snake_up(
    width: int,
    stride: int,
    *,
    right: int | None = None,
    groups: int = 1,
    noise: nn.Module | None = None,
) -> Chain:
    """The way back, then units: [B, C, F] -> [B, C / 2, F * stride].

    `right` samples are dropped at the end (see `ConvTranspose`); `groups` is that of the units,
    and `noise` comes before them.
    """
    half = width // 2
    up = ConvTranspose(width, half, 2 * stride, stride=stride, causal=False, right=right)
    units = (snake_unit(half, dilation, groups) for dilation in DILATIONS)
    return Chain(Snake(width), up, *([noise] if noise else []), *units)
