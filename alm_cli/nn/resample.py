"""Streaming sample rate conversion with the windowed sinc kernel of torchaudio.

Each output sample is a weighted sum of the few input samples around it; the weights repeat after
`rate / gcd` outputs. Only weights that are not zero are kept, so unrelated rates (44101 to 24000)
need megabytes where the dense kernel has gigabytes.
"""

from __future__ import annotations

from math import gcd, pi

import torch
from torch import Tensor

# torchaudio's defaults: zero crossings on each side, and the share of the band that is kept.
_CROSSINGS = 6
_ROLLOFF = 0.99
# Products held at a time: 1 MB, within a processor's cache.
_PRODUCTS = 1 << 18


def resampled_length(length: int, source_rate: int, target_rate: int) -> int:
    """Samples that `length` samples become: rounded up, as torchaudio does."""
    return -(-length * target_rate // source_rate)


def resampled(x: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """x [C, T], a whole recording -> [C, U] at the other rate."""
    if source_rate == target_rate:
        return x
    stream = Resampler(source_rate, target_rate)
    return torch.cat((stream.push(x), stream.finish().expand(len(x), -1)), 1)


class Resampler:
    """One stream from one rate to another, in any blocks; memory does not grow with its length."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        divisor = gcd(source_rate, target_rate)
        self._old, self._new = source_rate // divisor, target_rate // divisor
        self._first, self._weights = _kernel(self._old, self._new)
        self._taken = 0
        self._made = 0
        # The samples that are still needed, the first of which has the number `_start`.
        self._start = int(self._first[0])
        self._pending: Tensor | None = None

    def push(self, x: Tensor) -> Tensor:
        """x [C, n] -> [C, m]: the samples that can be known by now, float32."""
        if self._pending is None:
            self._pending = x.new_zeros(x.shape[0], -self._start)
        if self._old == self._new:
            return x
        self._pending = torch.cat((self._pending, x), -1)
        self._taken += x.shape[-1]
        # Of the last window's position at most one sample is lost to rounding.
        reach = self._taken - self._weights.shape[1] - int(self._first[0]) - 1
        return self._until(reach * self._new // self._old + 1)

    def finish(self) -> Tensor:
        """[C, m]: the rest, so that the whole has ceil(T * new / old) samples."""
        if self._pending is None:
            return torch.zeros(1, 0)
        if self._old == self._new:
            return self._pending[:, :0]
        silence = self._weights.shape[1] + 1
        self._pending = torch.nn.functional.pad(self._pending, (0, silence))
        return self._until(resampled_length(self._taken, self._old, self._new))

    def _until(self, end: int) -> Tensor:
        """The output samples up to the one with the number `end`."""
        assert self._pending is not None
        if end <= self._made:
            return self._pending.new_zeros(self._pending.shape[0], 0)
        taps = self._weights.shape[1]
        windows = self._pending.unfold(-1, taps, 1)
        made = []
        for begin in range(self._made, end, max(1, _PRODUCTS // taps)):
            numbers = torch.arange(begin, min(end, begin + max(1, _PRODUCTS // taps)))
            phases = numbers % self._new
            starts = numbers // self._new * self._old + self._first[phases] - self._start
            # Each output is summed by itself: a matrix product would round by the block's size.
            near = windows[:, starts].mul_(self._weights.index_select(0, phases))
            made.append(near.sum(-1))
        self._made = end
        needed = end // self._new * self._old + int(self._first[end % self._new])
        self._pending = self._pending[:, max(0, needed - self._start) :].clone()
        self._start = max(needed, self._start)
        return torch.cat(made, -1)


def _kernel(old: int, new: int) -> tuple[Tensor, Tensor]:
    """For each of `new` phases the number of the first input sample [P] and the weights [P, taps].

    Positions are counted from the input sample at which the first phase is centred.
    """
    band = min(old, new) * _ROLLOFF
    reach = _CROSSINGS * old / band
    centres = torch.arange(new, dtype=torch.float64) * old / new
    first = torch.ceil(centres - reach).long()
    taps = int(2 * reach) + 1
    offsets = (first[:, None] + torch.arange(taps) - centres[:, None]) * (band / old)
    offsets = offsets.clamp(-_CROSSINGS, _CROSSINGS)
    window = torch.cos(offsets * (pi / _CROSSINGS / 2)).square()
    weights = torch.sinc(offsets) * window * (band / old)
    return first, weights.float()
