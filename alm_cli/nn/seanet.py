"""What SEANet encoders and decoders are made of (arXiv:2009.02095), as EnCodec uses them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.stack import Elu, ResidualUnit, StackParts
from alm_cli.nn.state import State


def seanet_parts(
    *,
    context: Callable[[int], nn.Module] | None = None,
    conv: Callable[..., nn.Module] = partial(Conv, padding="reflect"),
    up: Callable[..., nn.Module] = ConvTranspose,
    activation: Callable[[int], nn.Module] = lambda _: Elu(),
    kernel: int = 3,
    compress: int = 2,
    convolved_skip: bool = True,
) -> StackParts:
    """Residual units of two convolutions, the first one of `kernel`, `compress` times narrower."""

    def unit(width: int, dilation: int) -> nn.Module:
        hidden = width // compress
        first = conv(width, hidden, kernel, dilation=dilation)
        skip = conv(width, width, 1) if convolved_skip else None
        before, between = activation(width), activation(hidden)
        return ResidualUnit(before, first, between, conv(hidden, width, 1), skip)

    return StackParts(conv=conv, up=up, unit=unit, activation=activation, context=context)


class NormedConv(Conv):
    """A convolution whose output is normalised over all features and all of time.

    Every sample depends on the whole signal, so it cannot continue a stream.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        self.norm = nn.GroupNorm(1, outputs)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, D, ceil(T / stride)]."""
        return self.norm(super().forward(x, state))


class NormedConvTranspose(ConvTranspose):
    """The same for a centred transposed convolution.

    What is normalised are the samples of all windows; the surplus at both ends is cut off after
    that, and so has its part in the statistics.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, right=0)
        self.norm = nn.GroupNorm(1, outputs)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, F] -> [B, D, F * stride]."""
        y = self.norm(super().forward(x, state))
        right = self.surplus // 2
        return y[..., self.surplus - right : y.shape[-1] - right]
