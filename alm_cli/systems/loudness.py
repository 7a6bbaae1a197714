"""How loud a recording is, over blocks of samples, as broadcasting measures it (BS.1770-4)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_WINDOW_S = 0.4
_STEPS = 4  # of a window, from the beginning of one to that of the next
_SILENCE_LUFS = -70.0
_BELOW_MEAN_LU = 10.0
# After so long nothing is left of what the filters heard: the slowest decays by 80 dB in 0.04 s.
_MEMORY_S = 0.25
# Left, right, centre; surround channels count for more, the low-frequency channel for nothing.
_WEIGHTS = {5: (1.0, 1.0, 1.0, 1.41, 1.41), 6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)}


def loudness(blocks: Iterable[Samples], rate: int) -> float | None:
    """The integrated loudness in LUFS of blocks [C, n]; None below 0.4 s and for silence."""
    meter = _Meter(rate)
    for block in blocks:
        meter.push(block)
    return meter.integrated()


def gain_to(target_lufs: float, blocks: Iterable[Samples], rate: int) -> float:
    """The gain in dB that brings a recording to `target_lufs`, or so near that no sample exceeds 1.

    0.0 where loudness is not defined, for want of sound or of 0.4 s. The first release of DAC
    brings everything to -16 LUFS before it encodes, and back afterwards.
    """
    peak, meter = 0.0, _Meter(rate)
    for block in blocks:
        meter.push(block)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
    measured = meter.integrated()
    if measured is None:
        return 0.0
    return float(min(target_lufs - measured, -20 * np.log10(peak)))


class _Meter:
    """Adds up the energy of steps of 0.1 s, in float64 throughout."""

    def __init__(self, rate: int) -> None:
        self._rate, self._memory = rate, int(rate * _MEMORY_S) + 1
        self._past: NDArray[np.float64] | None = None  # what the filters still hear [C, n]
        self._waiting: NDArray[np.float64] | None = None  # squares of the step to come [C, n]
        self._energies: list[NDArray[np.float64]] = []  # of whole steps [C, n]
        self._steps = 0

    def push(self, block: Samples) -> None:
        """The next samples [C, n]."""
        size = 4 * self._rate
        for begin in range(0, block.shape[1], size):
            self._hear(block[:, begin : begin + size].astype(np.float64))

    def integrated(self) -> float | None:
        """The loudness in LUFS so far; None where no window is louder than silence."""
        if self._steps < _STEPS:
            return None
        steps = np.concatenate(self._energies, axis=1)
        sums = np.lib.stride_tricks.sliding_window_view(steps, _STEPS, axis=1).sum(-1)
        weights = np.array(_WEIGHTS.get(len(sums), (1.0,) * len(sums)))
        power = weights @ sums / (_WINDOW_S * self._rate)
        heard = power[_lufs(power) > _SILENCE_LUFS]
        if not heard.size:
            return None
        heard = heard[_lufs(heard) > _lufs(heard.mean()) - _BELOW_MEAN_LU]
        return float(_lufs(heard.mean()))

    def _hear(self, x: NDArray[np.float64]) -> None:
        past = x[:, :0] if self._past is None else self._past
        waiting = x[:, :0] if self._waiting is None else self._waiting
        known = np.concatenate([past, x], axis=1)
        self._past = known[:, -self._memory :]
        heard = _weighted(known, self._rate, self._memory)[:, past.shape[1] :]
        waiting = np.concatenate([waiting, heard**2], axis=1)
        begin = self._edge(self._steps)
        steps = (10 * (begin + waiting.shape[1] + 1) - 1) // self._rate
        edges = [self._edge(step) - begin for step in range(self._steps, steps + 1)]
        if len(edges) > 1:
            whole = waiting[:, : edges[-1]]
            self._energies.append(np.add.reduceat(whole, edges[:-1], axis=1))
        self._waiting, self._steps = waiting[:, edges[-1] :], steps

    def _edge(self, step: int) -> int:
        """The sample at which a step of 0.1 s begins."""
        return step * self._rate // 10


def _lufs(power: Any) -> Any:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def _weighted(x: NDArray[np.float64], rate: int, memory: int) -> NDArray[np.float64]:
    """x [C, n] as the ear weighs it: both filters at once, by their spectra."""
    # Room for what the filters say after the end, which would come round to the beginning.
    size = 1 << (x.shape[1] + memory - 1).bit_length()
    spectrum = np.fft.rfft(x, size, axis=1) * _weighting(rate, size)
    return np.fft.irfft(spectrum, size, axis=1)[:, : x.shape[1]]


@lru_cache(maxsize=4)
def _weighting(rate: int, size: int) -> NDArray[np.complex128]:
    """The K-weighting on the frequencies of a transform: a shelf for the head, then a high pass.

    The analogue prototypes behind the table for 48 kHz in the recommendation, brought to other
    rates; at 48 kHz the coefficients are those of the table.
    """
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    high = 10 ** (3.999843853973347 / 20)
    gains = (high, high**0.4996667741545416, 1.0)
    shelf = _filtered(delay, 1681.974450955533, 0.7071752369554196, rate, gains)
    # The table leaves the numerator of the high pass at 1, -2, 1, so it amplifies a little; by as
    # much at every rate.
    corner, quality = 38.13547087602444, 0.5003270373238773
    turn = np.tan(np.pi * corner / 48_000)
    gains = (1 + turn / quality + turn**2, 0.0, 0.0)
    return np.asarray(shelf * _filtered(delay, corner, quality, rate, gains))


def _filtered(
    delay: NDArray[np.complex128],
    corner: float,
    quality: float,
    rate: int,
    gains: tuple[float, float, float],
) -> NDArray[np.complex128]:
    """The response of a filter of second order, with its gains above, at and below the corner."""
    # Recordings of telephones and below have no room for the shelf.
    turn = np.tan(np.pi * min(corner, 0.45 * rate) / rate)
    high, band, low = gains
    rising, falling = (1 - delay) ** 2, (turn * (1 + delay)) ** 2
    middle = turn / quality * (1 - delay) * (1 + delay)
    numerator = high * rising + band * middle + low * falling
    return np.asarray(numerator / (rising + middle + falling))
