"""Laws of the Fourier parts: any chunking equals the whole, tones and magnitudes are restored."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from alm_cli.nn.spectral import LOG_SCALE, Analysis, Synthesis
from alm_cli.nn.state import State


def test_analysis_of_chunks_equals_the_whole() -> None:
    part, wave = Analysis(96, 48), torch.randn(2, 48 * 11)
    state = State()
    pieces = [part(piece, state) for piece in wave.split([48 * n for n in (1, 4, 2, 4)], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), part(wave), atol=1e-5, rtol=0)


def test_analysis_gives_scaled_log_energies() -> None:
    part, wave = Analysis(64, 16), torch.randn(1, 640)
    padded = torch.cat([torch.zeros(1, 48), wave], 1)
    plain = torch.fft.rfft(padded.unfold(1, 64, 16) * torch.hann_window(64))
    expected = (plain.abs().square() + 1e-6).log() * LOG_SCALE
    torch.testing.assert_close(part(wave), expected, atol=1e-4, rtol=0)


def test_silence_is_the_floor() -> None:
    assert Analysis(64, 16)(torch.zeros(1, 64)).eq(torch.tensor(1e-6).log() * LOG_SCALE).all()


def spectra_of(wave: Tensor, size: int, hop: int) -> Tensor:
    """wave [B, T] -> scaled log-energies [B, F, bins] of whole windows, in double precision."""
    energy = torch.fft.rfft(wave.unfold(1, size, hop) * torch.hann_window(size)).abs().square()
    return (energy.double() + 1e-6).log() * LOG_SCALE


def test_synthesis_of_chunks_equals_the_whole() -> None:
    part, x = Synthesis(64, 16), spectra_of(torch.randn(2, 16 * 15), 64, 16)
    state = State()
    pieces = [part(piece, state) for piece in x.split([1, 5, 2, 4], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), part(x), atol=1e-9, rtol=0)


def test_synthesis_continues_a_steady_tone() -> None:
    size, hop, rate, hertz = 960, 240, 24_000, 437.0
    wave = torch.sin(2 * pi * hertz / rate * torch.arange(rate))[None]
    made = Synthesis(size, hop)(spectra_of(wave, size, hop))[0, size:-size]
    spectrum = torch.fft.rfft(made * torch.hann_window(len(made)), n=rate).abs()
    assert abs(int(spectrum.argmax()) - hertz) <= 1
    assert made.abs().max() < 1.1
    assert made.square().mean() > 0.4  # a sine has 0.5


def test_synthesis_keeps_the_magnitudes_of_partials() -> None:
    size, hop = 960, 240
    time = torch.arange(24_000) / 24_000
    wave = sum(torch.sin(2 * pi * 150 * k * time) / k for k in range(1, 12))[None]
    wanted = spectra_of(wave, size, hop)
    made = Synthesis(size, hop)(wanted).float()
    found = spectra_of(made, size, hop)[:, 4:-4]
    loud = wanted[:, 4 : 4 + found.shape[1]] > 0.3
    assert (found - wanted[:, 4 : 4 + found.shape[1]])[loud].abs().mean() < 0.1


def test_synthesis_stays_finite_whatever_the_network_says() -> None:
    part = Synthesis(64, 16)
    for value in (1e30, -1e30, 0.0, float("nan")):
        assert part(torch.full((1, 4, part.features), value)).isfinite().all()
