"""Causal convolutions for streams that bring a few frames a call.

Deep layers of a codec have millions of weights for one or two steps of a frame. The library's
convolutions rearrange such weights in every call, which takes five times as long as reading them
(transposed: thirty times); a matrix product only reads them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.conv import Conv, ConvTranspose, pad
from alm_cli.nn.linear import is_plain, product
from alm_cli.nn.state import State

# Steps up to which a product is at least as fast, whatever the number of channels.
_STEPS = 64
_TRANSPOSED_STEPS = 1024
_PIECES = 4


class NarrowConv(Conv):
    """A `Conv` that is fast for few steps too."""

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, D, ceil(T / stride)]; with `state`, the next T samples of a stream."""
        window = self.context + self.stride
        # A window of one sample needs neither padding nor memory.
        if window > 1:
            if state is None:
                x = pad(x, *self._ends(x.shape[-1]), self.padding)
            else:
                x = self._continued(x, state)
            if x.shape[-1] < window:
                return x.new_zeros(x.shape[0], self.weight.shape[0], 0)
        steps = x.shape[0] * (x.shape[-1] // self.stride)
        if steps > _STEPS or self.groups > 1 or not is_plain(x):
            return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        # [B, C, T] -> [B, F, C, kernel]
        windows = x.unfold(2, window, self.stride)[..., :: self.dilation].transpose(1, 2)
        return product(windows.flatten(2), self.weight.flatten(1), self.bias).mT


class NarrowConvTranspose(ConvTranspose):
    """A causal `ConvTranspose` that is fast for few steps too.

    A stream keeps what its steps so far add to the samples to come.
    """

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, F] -> [B, D, F * stride]; with `state`, the next F frames of a stream."""
        end = x.shape[-1] * self.stride
        if not end:
            return x.new_zeros(x.shape[0], self.weight.shape[1] * self.groups, 0)
        y = self._windows(x)
        if state is not None:
            if state.knows(self):
                y[..., : self.surplus] += state.get(self, lambda: y)
            state.put(self, y[..., end:].clone())
        y = y[..., :end]
        return y if self.bias is None else y + self.bias[:, None]

    def _windows(self, x: Tensor) -> Tensor:
        """x [B, C, F] -> [B, D, F * stride + surplus], all windows added up, without bias."""
        few = x.shape[0] * x.shape[-1] <= _TRANSPOSED_STEPS and is_plain(x)
        if few and self.groups == 1:
            windows = _in_pieces(x.mT, self.weight.flatten(1))
        elif few and self.groups == x.shape[1]:
            windows = x.mT[..., None] * self.weight.flatten(1)
        else:
            return F.conv_transpose1d(x, self.weight, None, self.stride, groups=self.groups)
        kernel, length, stride = self.weight.shape[2], x.shape[-1], self.stride
        windows = windows.reshape(x.shape[0], length, -1, kernel)
        pieces = -(-kernel // stride)
        y = x.new_zeros(x.shape[0], windows.shape[2], length + pieces - 1, stride)
        for piece in range(pieces):
            part = windows[..., piece * stride : (piece + 1) * stride].transpose(1, 2)
            y[:, :, piece : piece + length, : part.shape[-1]] += part
        return y.flatten(2)[..., : (length - 1) * stride + kernel]


def _in_pieces(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, F, D], weight [D, E] -> [B, F, E].

    For few vectors MKL uses one thread a product, so there are several products.
    """
    if x.shape[:-1].numel() > _STEPS or weight.shape[1] % _PIECES:
        return x @ weight
    rows = x.reshape(1, -1, x.shape[-1]).expand(_PIECES, -1, -1)
    y = torch.bmm(rows, weight.view(len(weight), _PIECES, -1).transpose(0, 1))
    return y.transpose(0, 1).reshape(*x.shape[:-1], -1)
