"""Convolutions over time that see a whole signal or continue a stream (arXiv:2210.13438)."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.state import State

Padding = Literal["zeros", "reflect", "replicate"]


class Conv(nn.Module):
    """x [B, C, T] -> [B, D, ceil(T / stride)].

    A causal convolution pads on the left, and on the right only what completes the last window; a
    centred one shares the padding between both sides, and cannot continue a stream. Within a
    stream every call but the last brings a multiple of `stride` samples, and with "reflect" the
    first call brings more samples than are padded, because they are mirrored.
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
        self.causal, self.padding = causal, padding
        self.context = (kernel - 1) * dilation + 1 - stride
        shape = (outputs, inputs // groups, kernel)
        self.weight, self.bias = _initial(shape, outputs, inputs // groups * kernel, bias)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, D, ceil(T / stride)]; with `state`, the next T samples of a stream."""
        x = self._whole(x) if state is None else self._continued(x, state)
        return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _whole(self, x: Tensor) -> Tensor:
        completion = -x.shape[-1] % self.stride
        # The odd sample of a centred padding stands on the left (EnCodec).
        right = 0 if self.causal else self.context // 2
        return pad(x, self.context - right, right + completion, self.padding)

    def _continued(self, x: Tensor, state: State) -> Tensor:
        assert self.causal, "a centred convolution needs the whole signal"
        completion = -x.shape[-1] % self.stride
        assert state.last or not completion, f"{x.shape[-1]} samples at stride {self.stride}"
        if not state.knows(self):
            assert state.last or self.padding != "reflect" or x.shape[-1] > self.context
            x = pad(x, self.context, completion, self.padding)
            skipped = 0
        else:
            past = cast(Tensor, state.get(self, lambda: None))
            skipped = past.shape[-1] - self.context
            x = pad(torch.cat((past, x), -1), 0, completion, self.padding)
        # A mirrored end may need samples from before the last piece, more than the window does.
        kept = max(self.context, self.stride if self.padding == "reflect" else 0)
        # A copy: a view would keep the whole block alive until the next call.
        state.put(self, x[..., x.shape[-1] - kept :].clone())
        return x[..., skipped:]


class ConvTranspose(nn.Module):
    """x [B, C, F] -> [B, D, F * stride].

    A causal one drops the whole surplus of the last window on the right, a centred one half of it
    on either side (the odd sample on the left), and cannot continue a stream.
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
    ) -> None:
        super().__init__()
        self.stride, self.groups, self.causal = stride, groups, causal
        self.surplus = kernel - stride
        shape = (inputs, outputs // groups, kernel)
        self.weight, self.bias = _initial(shape, outputs, outputs // groups * kernel, bias)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, F] -> [B, D, F * stride]; with `state`, the next F frames of a stream."""
        if not self.causal:
            assert state is None, "a centred convolution needs the whole signal"
            y = F.conv_transpose1d(x, self.weight, self.bias, self.stride, groups=self.groups)
            right = self.surplus // 2
            return y[..., self.surplus - right : y.shape[-1] - right]
        length = x.shape[-1] * self.stride
        # The padding trims the surplus from both ends: what the frames before added to themselves,
        # and what these add to those to come.
        y = F.conv_transpose1d(
            self._with_past(x, state),
            self.weight,
            self.bias,
            self.stride,
            self.surplus,
            groups=self.groups,
        )
        return y[..., y.shape[-1] - length :]

    def _with_past(self, x: Tensor, state: State | None) -> Tensor:
        """x [B, C, F] -> [B, C, P + F]: before it the frames whose windows reach into it."""
        frames = -(-self.surplus // self.stride)
        silence = x.new_zeros(*x.shape[:2], frames)
        past = silence if state is None else state.get(self, lambda: silence)
        x = torch.cat((past, x), -1)
        if state is not None:
            state.put(self, x[..., x.shape[-1] - frames :].clone())
        return x


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


def _initial(
    shape: tuple[int, ...], outputs: int, fan_in: int, bias: bool
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Weight and bias, uniform within 1 / sqrt(fan_in): the usual start of training."""
    bound = fan_in**-0.5
    weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
    return weight, nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None
