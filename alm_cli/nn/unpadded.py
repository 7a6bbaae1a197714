"""The same convolutions without any padding: every step sees nothing but the signal."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.stack import Chain, ResidualUnit


def unpadded(part: nn.Module, x: Tensor) -> Tensor:
    """x [B, C, T] -> what `part` makes of it where its windows are full, so fewer steps.

    Of what goes around a convolution, the same number of steps falls away on both sides.
    """
    if isinstance(part, Conv):
        step, reach, groups = part.stride, part.dilation, part.groups
        return F.conv1d(x, part.weight, part.bias, step, 0, reach, groups)
    if isinstance(part, ConvTranspose):
        return F.conv_transpose1d(x, part.weight, part.bias, part.stride, groups=part.groups)
    if isinstance(part, ResidualUnit):
        y = x
        for inner in (part.before, part.first, part.between, part.second):
            y = unpadded(inner, y)
        lost = (x.shape[-1] - y.shape[-1]) // 2
        return x[..., lost : x.shape[-1] - lost] + y
    if isinstance(part, Chain):
        for inner in part:
            x = unpadded(inner, x)
        return x
    return part(x)


def unpadded_length(part: nn.Module, length: int) -> int:
    """Steps that `unpadded` makes of `length`; below 1 where it lacks so many."""
    for conv in _convolutions(part):
        reach = _reach(conv)
        if isinstance(conv, Conv):
            length = (length - reach) // conv.stride + 1
        else:
            length = (length - 1) * conv.stride + reach
    return length


def needed_length(part: nn.Module, length: int) -> int:
    """Steps of which `unpadded` makes `length`: the inverse of `unpadded_length`, rounded up."""
    for conv in reversed(list(_convolutions(part))):
        reach = _reach(conv)
        if isinstance(conv, Conv):
            length = (length - 1) * conv.stride + reach
        else:
            length = -((reach - length) // conv.stride) + 1
    return length


def _convolutions(part: nn.Module) -> Iterator[Conv | ConvTranspose]:
    """The convolutions of a part, in their order."""
    return (inner for inner in part.modules() if isinstance(inner, Conv | ConvTranspose))


def _reach(conv: Conv | ConvTranspose) -> int:
    """Steps from the first to the last that one window sees or makes."""
    dilation = conv.dilation if isinstance(conv, Conv) else 1
    return (int(conv.weight.shape[2]) - 1) * dilation + 1
