"""Kaldi's log-mel filter bank, in whatever precision its input has."""

from __future__ import annotations

from functools import lru_cache
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, HOP = 400, 160  # samples at 16 kHz: 25 ms every 10 ms
VARIANCE_FLOOR = 1e-7
_SIZE = 512  # of the Fourier transform
_LOW_HZ, _HIGH_HZ, _RATE = 20.0, 8000.0, 16_000
_PREEMPHASIS = 0.97
# Kaldi's floor, the spacing of float32 numbers at 1; samples count as 16-bit integers.
_FLOOR, _FULL_SCALE = torch.finfo(torch.float32).eps, 2.0**15
# Frames at a time: half a minute, so that a long recording needs little memory.
_FRAMES = 3000


def frame_count(length: int) -> int:
    """How many windows lie wholly within `length` samples."""
    return max(0, 1 + (length - WINDOW) // HOP)


def fbank(wave: Tensor, bands: int = 80) -> Tensor:
    """wave [B, T] at 16 kHz -> log-energies [B, F, bands], natural logarithms, no dithering.

    In single precision every operation is done in the order of torchaudio's `kaldi.fbank`, in
    double precision it is what transformers' SeamlessM4T extractor computes. The two differ in
    bands that are quiet beside loud ones, and a checkpoint knows the one it was published with.
    """
    frames = frame_count(wave.shape[-1])
    if not frames:
        return wave.new_zeros(wave.shape[0], 0, bands)
    rows = []
    with torch.autocast(wave.device.type, enabled=False):
        for row in wave * _FULL_SCALE:
            windows = row.unfold(0, WINDOW, HOP)
            rows.append(
                torch.cat([_energies(part, bands) for part in torch.split(windows, _FRAMES)])
            )
    return torch.stack(rows)


def standardised(x: Tensor) -> Tensor:
    """x [B, F, N], F > 1 -> [B, F, N], every band of a row with mean 0 and variance 1."""
    # Row by row: a mean over one axis of three may be summed in another order.
    rows = [(row - row.mean(0)) / (row.var(0) + VARIANCE_FLOOR).sqrt() for row in x]
    return torch.stack(rows)


def paired(x: Tensor) -> Tensor:
    """x [B, F, N] -> [B, F // 2, 2 N]: every two frames as one, an odd last one left out."""
    rows, frames, bands = x.shape
    return x[:, : frames // 2 * 2].reshape(rows, frames // 2, 2 * bands)


def _energies(windows: Tensor, bands: int) -> Tensor:
    """windows [F, WINDOW] -> log-energies [F, bands]."""
    windows = windows - windows.mean(1, keepdim=True)
    before = F.pad(windows[None], (1, 0), "replicate")[0, :, :-1]
    windows = (windows - _PREEMPHASIS * before) * _povey(windows.dtype, windows.device)
    spectra = torch.fft.rfft(F.pad(windows, (0, _SIZE - WINDOW)))
    if windows.dtype == torch.float64:
        # _compat_single_spectra: the reference computes in double precision, but keeps spectra in
        # single precision.
        spectra = spectra.to(torch.complex64).to(torch.complex128)
    power = spectra.abs().square()
    return (power @ _triangles(bands, power.dtype, power.device)).clamp(min=_FLOOR).log()


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _povey(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Povey's window [WINDOW]: a Hann window that is nearer to 1 and still ends with 0."""
    return torch.hann_window(WINDOW, periodic=False, dtype=dtype, device=device).pow(0.85)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _triangles(bands: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[_SIZE // 2 + 1, bands]: triangles of height 1, equally wide on the mel scale."""
    low, high = (1127.0 * log(1 + hertz / 700) for hertz in (_LOW_HZ, _HIGH_HZ))
    step = (high - low) / (bands + 1)
    band = torch.arange(bands, dtype=dtype)[:, None]
    left, centre, right = (low + (band + place) * step for place in (0.0, 1.0, 2.0))
    hertz = torch.arange(_SIZE // 2, dtype=dtype) * (_RATE / _SIZE)
    mel = 1127.0 * (1 + hertz / 700).log()
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    # The last bin is the upper end of the last triangle.
    return F.pad(torch.minimum(rising, falling).clamp(min=0), (0, 1)).to(device).mT
