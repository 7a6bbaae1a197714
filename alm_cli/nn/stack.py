"""The convolutional encoder and decoder that codecs share (SoundStream, arXiv:2107.03312)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.state import State

_LOG2_E = 1.4426950408889634


class Chain(nn.Sequential):
    """Parts one after another in one stream."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> what the last part makes of it."""
        for part in self:
            x = part(x, state)
        return x


class Elu(nn.Module):
    """The exponential linear unit (arXiv:1511.07289)."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:  # noqa: ARG002
        """x [B, C, T] -> [B, C, T]."""
        if x.requires_grad or x.dtype != torch.float32 or x.device.type != "cpu":
            return F.elu(x)
        # torch's own kernel takes an accurate expm1, a fifth of EnCodec's time; this takes less
        # than half of it and is as near to the exact value (7e-8 against 6e-8, absolute).
        y = torch.clamp_max(x, 0).mul_(_LOG2_E).exp2_().sub_(1)
        return torch.maximum(x, y, out=y)


class ResidualUnit(nn.Module):
    """Two activated convolutions, added to the input or to what `skip` makes of it."""

    def __init__(
        self,
        before: nn.Module,
        first: nn.Module,
        between: nn.Module,
        second: nn.Module,
        skip: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.before, self.first = before, first
        self.between, self.second = between, second
        self.skip = skip

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, C, T]."""
        y = self.first(self.before(x, state), state)
        y = self.second(self.between(y, state), state)
        x = x if self.skip is None else self.skip(x, state)
        # Convolutions that look ahead give less than they were given until the stream ends.
        return y.add_(x if state is None else state.aligned(self, x, y.shape[-1]))


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """The sizes of an encoder; its decoder mirrors them."""

    channels: int
    width: int  # features after the first convolution, doubled by every stage
    features: int  # of the latent
    ratios: tuple[int, ...]  # by which the encoder's stages shorten the signal, in its order
    dilations: tuple[int, ...] = (1,)  # of the residual units of every stage
    kernel: int = 7
    last_kernel: int = 7


@dataclass(frozen=True, kw_only=True)
class StackParts:
    """What encoder and decoder are made of."""

    conv: Callable[..., nn.Module]  # as Conv
    up: Callable[..., nn.Module]  # as ConvTranspose
    unit: Callable[[int, int], nn.Module]  # of width, dilation
    activation: Callable[[int], nn.Module]  # of width
    context: Callable[[int], nn.Module] | None = None  # of width, between the stages and the latent


class ConvEncoder(Chain):
    """x [B, C, T] -> [B, D, ceil(T / hop)], where hop is the product of the ratios."""

    def __init__(self, spec: StackSpec, parts: StackParts) -> None:
        width = spec.width
        chain = [parts.conv(spec.channels, width, spec.kernel)]
        for ratio in spec.ratios:
            chain += [parts.unit(width, dilation) for dilation in spec.dilations]
            chain += [parts.activation(width)]
            chain += [parts.conv(width, 2 * width, 2 * ratio, stride=ratio)]
            width *= 2
        chain += [parts.context(width)] if parts.context else []
        chain += [parts.activation(width), parts.conv(width, spec.features, spec.last_kernel)]
        super().__init__(*chain)


class ConvDecoder(Chain):
    """x [B, D, F] -> [B, C, F * hop]."""

    def __init__(self, spec: StackSpec, parts: StackParts) -> None:
        width = spec.width * 2 ** len(spec.ratios)
        chain = [parts.conv(spec.features, width, spec.kernel)]
        chain += [parts.context(width)] if parts.context else []
        for ratio in reversed(spec.ratios):
            chain += [parts.activation(width)]
            chain += [parts.up(width, width // 2, 2 * ratio, stride=ratio)]
            width //= 2
            chain += [parts.unit(width, dilation) for dilation in spec.dilations]
        chain += [parts.activation(width), parts.conv(width, spec.channels, spec.last_kernel)]
        super().__init__(*chain)
