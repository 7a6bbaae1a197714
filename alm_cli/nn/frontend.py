"""Waveforms to frames by strided convolutions without padding (wav2vec 2.0, arXiv:2006.11477)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A second: the widest activations stay in a processor's cache, where the GELU takes an eighth of
# the time, and the products are large enough.
_BLOCK_FRAMES = 50


@dataclass(frozen=True, kw_only=True)
class FrontSpec:
    """The sizes of a front end; the first layer sees samples, the last one makes the frames.

    `over_time`: the first layer normalises each feature over the whole signal, so that every frame
    depends on all samples. Otherwise every layer normalises each vector by itself.
    """

    widths: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    bias: bool = False
    over_time: bool = True

    @property
    def hop(self) -> int:
        return prod(self.strides)

    @property
    def window(self) -> int:
        """Samples that one frame sees."""
        window = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            window = (window - 1) * stride + kernel
        return window

    def frames(self, samples: int) -> int:
        """The frames of so many samples: those whose windows are complete."""
        return max(0, (samples - self.window) // self.hop + 1)


class FrontEnd(nn.Module):
    """wave [B, T] -> [B, F, D], where F = (T - window) // hop + 1.

    Frames lie behind one another in memory, so that a convolution is a product of matrices with
    the signal where it lies, and a normalisation reads what is side by side.
    """

    def __init__(self, spec: FrontSpec) -> None:
        super().__init__()
        self.spec = spec
        sizes = zip(pairwise((1, *spec.widths)), spec.kernels, spec.strides, strict=True)
        self.convs = nn.ModuleList(
            FrameConv(*widths, kernel, stride, bias=spec.bias) for widths, kernel, stride in sizes
        )
        normed = [TimeNorm(spec.widths[0])] if spec.over_time else map(nn.LayerNorm, spec.widths)
        self.norms = nn.ModuleList(normed)

    def forward(self, wave: Tensor) -> Tensor:
        """wave [B, T] -> [B, F, D]."""
        return torch.stack([self._row(row) for row in wave])

    def _row(self, wave: Tensor) -> Tensor:
        """wave [T] -> [F, D], block by block on the CPU; a block sees all that its frames see."""
        spec, frames = self.spec, self.spec.frames(wave.shape[0])
        if not frames:
            return wave.new_zeros(0, spec.widths[-1])
        size = _BLOCK_FRAMES if wave.device.type == "cpu" else frames
        first, blocks = self._first(wave), []
        for begin in range(0, frames, size):
            end = min(begin + size, frames)
            block = wave[begin * spec.hop : (end - 1) * spec.hop + spec.window, None]
            blocks.append(self._frames(first(block)))
        return torch.cat(blocks)

    def _first(self, wave: Tensor) -> Callable[[Tensor], Tensor]:
        """The first convolution, normalised as it is over the whole of wave [T]."""
        conv, norm = cast(FrameConv, self.convs[0]), self.norms[0]
        if not isinstance(norm, TimeNorm):
            return lambda samples: norm(conv(samples))
        weight, bias = norm.folded(conv, wave)
        return partial(frame_conv, weight=weight, bias=bias, stride=conv.stride)

    def _frames(self, x: Tensor) -> Tensor:
        """What the first layer made of a block, before its activation [N, C] -> [F, D]."""
        x = F.gelu(x)
        norms = self.norms[1:] if len(self.norms) > 1 else (nn.Identity(),) * len(self.convs[1:])
        for conv, norm in zip(self.convs[1:], norms, strict=True):
            x = F.gelu(norm(conv(x)))
        return x


class FrameConv(nn.Module):
    """A strided convolution without padding of vectors that lie behind one another.

    `weight` [D, k * C] has the taps of an ordinary weight [D, C, k] in the order of time.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.zeros(outputs, kernel * inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C] -> [(N - k) // stride + 1, D]."""
        return frame_conv(x, self.weight, self.bias, self.stride)


def frame_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """x [N, C], weight [D, k * C] -> [(N - k) // stride + 1, D].

    The windows of `stride` vectors are rows of a matrix without being copied; what a kernel has
    beyond them is a product with the rows that follow, added to the first.
    """
    wide = x.shape[1]
    kernel = weight.shape[1] // wide
    count = (x.shape[0] - kernel) // stride + 1
    samples = x.reshape(-1)
    # Of a signal with one channel all windows together are smaller than what they make.
    taps = stride if wide > 1 else kernel
    y: Tensor | None = None
    for begin in range(0, kernel, taps):
        span = slice(begin * wide, min(begin + taps, kernel) * wide)
        part = weight[:, span]
        rows = samples[begin * wide :].unfold(0, part.shape[1], stride * wide)[:count]
        y = F.linear(rows, part, bias) if y is None else torch.addmm(y, rows, part.mT)
    assert y is not None
    return y


class TimeNorm(nn.Module):
    """Each feature over the whole signal: zero mean and unit variance, then scale and shift.

    GroupNorm with a group for every channel (arXiv:1803.08494).
    """

    def __init__(self, dimension: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dimension))
        self.bias = nn.Parameter(torch.zeros(dimension))

    def folded(self, conv: FrameConv, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [D, k] and bias [D] that make of wave [T] the normalised output of `conv`.

        Mean and variance of a convolution's output follow from the mean and the covariance of its
        windows, so that the signal need not be gone through before its first block is made. Its
        own bias falls out.
        """
        weight = conv.weight.double()
        windows = wave.double().unfold(0, weight.shape[1], conv.stride)
        mean = windows.mean(0)
        centred = windows - mean
        covariance = centred.mT @ centred / len(windows)
        variance = (weight @ covariance * weight).sum(1)
        scale = self.weight.double() / torch.sqrt(variance + self.eps)
        shift = self.bias.double() - weight @ mean * scale
        return (weight * scale[:, None]).to(conv.weight.dtype), shift.to(conv.weight.dtype)
