"""Spectra of centred windows and what speech recognisers make of them: mel bands, cepstra, deltas.

Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition"
(1980), for cepstra; Slaney, "Auditory Toolbox" (1998), and HTK for the two mel scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log10, pi

import torch
from torch import Tensor, nn

from alm_cli.nn.conv import Padding, pad
from alm_cli.nn.state import State

# Slaney's scale is linear up to this frequency, then logarithmic: 27 bands for a factor of 6.4.
_LINEAR_HZ, _HZ_PER_MEL = 1000.0, 200 / 3
_MELS_PER_E = 27 / log(6.4)
# Where constants are computed: on the meta device, where models are planned, such operations import
# torch's compiler, which takes longer than all other work on a short recording.
_HERE = torch.device("cpu")


class Windows(nn.Module):
    """Windows of `size` around every `hop`-th sample, the ends of the signal padded by half of it.

    A stream owes the windows that reach into what has not come yet, until its last call.
    """

    def __init__(self, size: int, hop: int, padding: Padding) -> None:
        super().__init__()
        if size - hop <= size // 2:
            raise ValueError("windows must overlap by more than half, or no end can be mirrored")
        self.size, self.hop, self.padding = size, hop, padding

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, T] -> [B, C, T // hop + 1, size]; with `state`, those that are complete."""
        side = self.size // 2
        if state is None:
            return pad(x, side, side, self.padding).unfold(-1, self.size, self.hop)
        past = state.get(self, lambda: _Past(x[..., :0], begun=False))
        x = torch.cat((past.samples, x), -1)
        # A mirrored start needs the samples that it mirrors.
        begins = not past.begun and (state.last or x.shape[-1] > side)
        x = pad(x, side if begins else 0, side if state.last else 0, self.padding)
        begun = past.begun or begins
        count = max(0, (x.shape[-1] - self.size) // self.hop + 1) if begun else 0
        state.put(self, _Past(x[..., count * self.hop :].clone(), begun))
        if not count:
            return x.new_zeros(*x.shape[:-1], 0, self.size)
        return x.unfold(-1, self.size, self.hop)


@dataclass(frozen=True)
class _Past:
    """Samples that windows still need, with the padding of the start once it has begun."""

    samples: Tensor
    begun: bool


class Power(nn.Module):
    """Power spectra of Hann windows, the signal mirrored at its ends."""

    window: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        self.windows = Windows(size, hop, "reflect")
        self.register_buffer("window", torch.hann_window(size, device=_HERE), persistent=False)

    def forward(self, wave: Tensor, state: State | None = None) -> Tensor:
        """wave [B, C, T] -> [B, C, T // hop + 1, size // 2 + 1]."""
        windows = self.windows(wave, state)
        if not windows.shape[-2]:  # of which there are no transforms
            return windows.new_zeros(*windows.shape[:-1], self.windows.size // 2 + 1)
        return torch.fft.rfft(windows * self.window).abs().square()


class Deltas(nn.Module):
    """The slope of the straight line through each value and the two on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = Windows(5, 1, "replicate")

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, C, F] -> [B, C, F]; with `state`, two frames late until the last call."""
        first, second, _, fourth, fifth = self.windows(x, state).unbind(-1)
        return (2 * (fifth - first) + (fourth - second)) / 10


def slaney_filters(bands: int, size: int, rate: int) -> Tensor:
    """Triangles of equal area on Slaney's scale, up to half the rate: [size // 2 + 1, bands]."""
    turn = _LINEAR_HZ / _HZ_PER_MEL
    top = turn + log(rate / 2 / _LINEAR_HZ) * _MELS_PER_E
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64, device=_HERE)
    logarithmic = ((mels - turn) / _MELS_PER_E).exp() * _LINEAR_HZ
    corners = torch.where(mels < turn, mels * _HZ_PER_MEL, logarithmic)
    area = (corners[2:] - corners[:-2]) / 2
    return (_triangles(corners, size, rate) / area).float()


def htk_filters(bands: int, size: int, rate: int) -> Tensor:
    """Triangles of height 1 on HTK's scale, up to half the rate: [size // 2 + 1, bands]."""
    # In single precision, as torchaudio: the rounding shows in the logarithms.
    mels = torch.linspace(0, 2595 * log10(1 + rate / 1400), bands + 2, device=_HERE)
    return _triangles(700 * (10 ** (mels / 2595) - 1), size, rate)


def cosines(bands: int, coefficients: int) -> Tensor:
    """The orthonormal discrete cosine transform (II), its first coefficients: [bands, n]."""
    # In torchaudio's order, which decides how the angles are rounded.
    places, orders = (torch.arange(count, device=_HERE) for count in (bands, coefficients))
    angles = (pi / bands * (places + 0.5))[:, None] * orders
    scales = torch.full((coefficients,), (2 / bands) ** 0.5, device=_HERE)
    scales[0] = bands**-0.5
    return angles.cos() * scales


def _triangles(corners: Tensor, size: int, rate: int) -> Tensor:
    """corners [N + 2] in hertz -> [size // 2 + 1, N]: triangles from a corner over the next two."""
    bins = torch.linspace(0, rate / 2, size // 2 + 1, dtype=corners.dtype, device=_HERE)
    slopes = corners[None, :] - bins[:, None]
    widths = corners.diff()
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0)
