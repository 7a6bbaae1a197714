"""Waves from frames by ever longer transposed convolutions (HiFi-GAN, arXiv:2010.05646)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.stack import Chain, ResidualUnit
from alm_cli.nn.state import State

_KERNEL = 7
# _compat_last_slope: before its last convolution the first release left the slope to the library,
# whose default it is.
_LAST_SLOPE = 0.01


@dataclass(frozen=True, kw_only=True)
class UpsamplerSpec:
    """The sizes: every stage makes `ratio` times as many steps of half as many features.

    Each stage has several branches, one for every kernel of `unit_kernels`, which have a residual
    unit for every one of their `dilations`. A `kernel` is longer than its ratio by an even number.
    """

    features: int
    width: int  # after the first convolution
    ratios: tuple[int, ...]
    kernels: tuple[int, ...]
    unit_kernels: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]
    slope: float
    last_bias: bool = True


class WaveUpsampler(nn.Module):
    """x [B, D, F] -> wave [B, 1, F * hop] within -1..1, where hop is the product of the ratios.

    Its convolutions look ahead, so in a stream it owes some samples until the last call.
    """

    def __init__(self, spec: UpsamplerSpec) -> None:
        super().__init__()
        self.slope, self.branched = spec.slope, len(spec.unit_kernels)
        width = spec.width
        self.first = Conv(spec.features, width, _KERNEL, causal=False)
        self.ups, self.branches = nn.ModuleList(), nn.ModuleList()
        for ratio, kernel in zip(spec.ratios, spec.kernels, strict=True):
            assert not (kernel - ratio) % 2, "both ends are trimmed alike"
            self.ups.append(ConvTranspose(width, width // 2, kernel, stride=ratio, causal=False))
            width //= 2
            for size, dilations in zip(spec.unit_kernels, spec.dilations, strict=True):
                units = (_unit(width, size, dilation, spec.slope) for dilation in dilations)
                self.branches.append(Chain(*units))
        self.last = Conv(width, 1, _KERNEL, bias=spec.last_bias, causal=False)
        # The branch that looks ahead farthest gives the least at a time in a stream.
        reach = [
            (size - 1) * (sum(dilations) + len(dilations))
            for size, dilations in zip(spec.unit_kernels, spec.dilations, strict=True)
        ]
        self._slowest = reach.index(max(reach))

    def forward(
        self, x: Tensor, state: State | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """x [B, D, F] -> wave [B, 1, F * hop]; `condition` [B, width, 1] is added to all frames."""
        x = self.first(x, state)
        if condition is not None:
            x = x + condition
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.slope), state)
            x = self._merged(x, stage, state)
        return torch.tanh(self.last(F.leaky_relu(x, _LAST_SLOPE), state))

    def _merged(self, x: Tensor, stage: int, state: State | None) -> Tensor:
        """x [B, C, T] -> [B, C, T], the mean of what the branches of a stage make of it."""
        begin = stage * self.branched
        branches = [self.branches[begin + i] for i in range(self.branched)]
        made = [branch(x, state) for branch in branches]
        if state is not None:
            length = made[self._slowest].shape[-1]
            pairs = zip(branches, made, strict=True)
            made = [state.aligned(branch, y, length) for branch, y in pairs]
        total = made[0]
        for y in made[1:]:
            total = total + y
        return total / self.branched


class Leaky(nn.Module):
    """The rectifier that lets a little of what is negative through."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:  # noqa: ARG002
        """x [B, C, T] -> [B, C, T]."""
        return F.leaky_relu(x, self.slope)


def _unit(width: int, kernel: int, dilation: int, slope: float) -> ResidualUnit:
    """Two convolutions as wide as what they are added to, the first of them dilated."""
    first = Conv(width, width, kernel, dilation=dilation, causal=False)
    second = Conv(width, width, kernel, causal=False)
    return ResidualUnit(Leaky(slope), first, Leaky(slope), second)
