"""Convolutions over time that see a whole signal or continue a stream (arXiv:2210.13438)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.state import State

Padding = Literal["zeros", "reflect", "replicate"]


class Conv(nn.Module):
    """x [B, C, T] -> [B, D, ceil(T / stride)].

    A causal convolution pads on the left, and on the right only what completes the last window; a
    centred one shares the padding between both sides, so in a stream it owes the frames whose
    windows are not complete until the last call.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = True,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = padding
        self.context = (kernel - 1) * dilation + 1 - stride
        # The odd sample of a centred padding stands on the left (EnCodec).
        self.right = 0 if causal else self.context // 2
        shape = (outputs, inputs // groups, kernel)
        self.weight, self.bias = _initial(shape, outputs, inputs // groups * kernel, bias)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, D, ceil(T / stride)]; with `state`, the next T samples of a stream."""
        if state is None:
            x = pad(x, *self._ends(x.shape[-1]), self.padding)
        else:
            x = self._continued(x, state)
            if x.shape[-1] < self.context + self.stride:
                return x.new_zeros(x.shape[0], self.weight.shape[0], 0)
        if self._is_depthwise and x.dtype == torch.float64 and x.device.type == "cpu":
            return _depthwise(x, self.weight, self.bias, self.dilation)
        return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    @property
    def _is_depthwise(self) -> bool:
        """Whether every channel is convolved by itself, sample by sample."""
        return self.stride == 1 and self.weight.shape[1] == 1 and self.groups == len(self.weight)

    def _ends(self, length: int) -> tuple[int, int]:
        """What is padded on the left and on the right of a signal."""
        return self.context - self.right, self.right + -length % self.stride

    def _continued(self, x: Tensor, state: State) -> Tensor:
        """x [B, C, T], the next of a stream -> complete windows, as samples."""
        past = state.get(self, lambda: _Past(x[..., :0]))
        length = past.length + x.shape[-1]
        x = torch.cat((past.samples, x), -1)
        left, right = self._ends(length)
        begun = past.begun
        # Mirrored ends need the samples that they mirror.
        mirrored = max(left, self.right + self.stride - 1) if self.padding == "reflect" else 0
        begins = not begun and (length > mirrored or state.last)
        x = pad(x, left if begins else 0, right if state.last else 0, self.padding)
        if not (begun or begins):
            state.put(self, _Past(x, 0, length))
            return x[..., :0]
        used = max(0, (x.shape[-1] - past.spare - self.context) // self.stride) * self.stride
        # A mirrored end may need samples that no window needs any more.
        kept = self.right + self.stride if self.padding == "reflect" else 0
        spare = min(past.spare + used, kept)
        # A copy: a view would keep the whole block alive until the next call.
        rest = x[..., past.spare + used - spare :].clone()
        # Of a length that has begun, only what completes the last window matters.
        state.put(self, _Past(rest, spare, length % self.stride, begun=True))
        return x[..., past.spare :]


@dataclass(frozen=True)
class _Past:
    """Samples a convolution still needs; the first `spare` of them for mirroring only."""

    samples: Tensor
    spare: int = 0
    length: int = 0
    begun: bool = False


class ConvTranspose(nn.Module):
    """x [B, C, F] -> [B, D, F * stride].

    A causal one drops the whole surplus of the last window on the right, a centred one half of it
    on either side (the odd sample on the left; `right` says otherwise), and so owes some samples
    of a stream until the last call.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int,
        groups: int = 1,
        bias: bool = True,
        causal: bool = True,
        right: int | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        self.surplus = kernel - stride
        self.left = 0 if causal else self.surplus - self.surplus // 2
        self.right = self.surplus - self.left if right is None else right
        shape = (inputs, outputs // groups, kernel)
        self.weight, self.bias = _initial(shape, outputs, outputs // groups * kernel, bias)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, F] -> [B, D, F * stride]; with `state`, the next F frames of a stream."""
        # Before x the frames whose windows reach into it, at first none.
        reach = -(-self.surplus // self.stride)
        silence = x.new_zeros(*x.shape[:2], reach), self.left
        past, surplus = silence if state is None else state.get(self, lambda: silence)
        tail = self.surplus - self.right if state is None or state.last else 0
        if not x.shape[-1] and not tail:
            return x.new_zeros(x.shape[0], self.weight.shape[1] * self.groups, 0)
        end = x.shape[-1] * self.stride + tail
        dropped = min(surplus, end)
        if state is not None:
            kept = torch.cat((past, x), -1)[..., x.shape[-1] :].clone()
            state.put(self, (kept, surplus - dropped))
        # The padding trims the surplus from both ends: what the frames before added to themselves,
        # and what these add to those to come.
        x = F.pad(torch.cat((past, x), -1), (0, -(-tail // self.stride)))
        y = F.conv_transpose1d(
            x, self.weight, self.bias, self.stride, self.surplus, groups=self.groups
        )
        begin = reach * self.stride - self.surplus
        return y[..., begin + dropped : begin + end]


def pad(x: Tensor, left: int, right: int, padding: Padding) -> Tensor:
    """x [B, C, T] -> [B, C, left + T + right].

    _compat_short_reflection: a signal no longer than the larger pad is first extended by zeros,
    then mirrored, and the zeros are cut off again (EnCodec).
    """
    if not left and not right:
        return x
    if padding == "zeros":
        return F.pad(x, (left, right))
    if padding == "replicate":
        return F.pad(x, (left, right), "replicate")
    missing = max(0, max(left, right) + 1 - x.shape[-1])
    padded = F.pad(F.pad(x, (0, missing)) if missing else x, (left, right), "reflect")
    return padded[..., : padded.shape[-1] - missing]


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """x [B, C, T], weight [C, 1, kernel] -> [B, C, T - (kernel - 1) * dilation].

    For double precision, of which the library takes each channel alone: that is ten times slower.
    """
    length = x.shape[-1] - (weight.shape[2] - 1) * dilation
    y = x[..., :length] * weight[..., 0]
    for tap in range(1, weight.shape[2]):
        begin = tap * dilation
        y = torch.addcmul(y, x[..., begin : begin + length], weight[..., tap])
    return y if bias is None else y + bias[:, None]


def _initial(
    shape: tuple[int, ...], outputs: int, fan_in: int, bias: bool
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Weight and bias, uniform within 1 / sqrt(fan_in): the usual start of training."""
    bound = fan_in**-0.5
    weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
    return weight, nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None
