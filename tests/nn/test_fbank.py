"""Kaldi's filter bank against torchaudio, bit for bit, and its laws."""

from __future__ import annotations

import pytest
import torch
import torchaudio
from torch import Tensor

from alm_cli.nn.fbank import fbank, frame_count, paired, standardised


def recording(length: int) -> Tensor:
    """wave [1, T] with noise, a steady tone and silence."""
    noise = torch.randn(1, length, generator=torch.Generator().manual_seed(length)) * 0.1
    places = torch.arange(length)
    return torch.sin(places * 0.3) * 0.5 + noise * (places > length // 3)


def kaldi(wave: Tensor) -> Tensor:
    energies: Tensor = torchaudio.compliance.kaldi.fbank(
        wave * 2**15, num_mel_bins=80, dither=0.0, window_type="povey", high_freq=8000.0
    )
    return energies


@pytest.mark.parametrize("length", [400, 401, 559, 560, 1601, 7919, 48_000])
def test_in_single_precision_it_is_that_of_torchaudio(length: int) -> None:
    wave = recording(length)
    assert torch.equal(fbank(wave), kaldi(wave)[None])


@pytest.mark.parametrize("wave", [torch.zeros(1, 4000), torch.full((1, 4000), 0.3)])
def test_silence_is_the_floor(wave: Tensor) -> None:
    assert torch.equal(fbank(wave), kaldi(wave)[None])
    assert torch.allclose(fbank(wave.double()), torch.tensor(2.0**-23).log().double())


def test_double_precision_hears_what_single_precision_does_not() -> None:
    tone = torch.sin(torch.arange(8000) * 0.3)[None]
    assert (fbank(tone) - fbank(tone.double())).abs().max() > 0.01
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    assert (fbank(noise) - fbank(noise.double())).abs().max() < 1e-3


def test_windows_lie_wholly_within_the_signal() -> None:
    for length in (0, 1, 399, 400, 559, 560, 719, 720):
        expected = max(0, (length - 240) // 160)
        assert frame_count(length) == expected
        assert fbank(torch.zeros(2, length)).shape == (2, expected, 80)


def test_a_long_signal_is_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = recording(9000)
    whole = fbank(wave)
    monkeypatch.setattr("alm_cli.nn.fbank._FRAMES", 7)
    torch.testing.assert_close(fbank(wave), whole, atol=1e-5, rtol=0)


def test_rows_do_not_see_one_another() -> None:
    waves = torch.cat((recording(4000), recording(4001)[:, 1:], torch.zeros(1, 4000)))
    both = standardised(fbank(waves))
    rows = torch.cat([standardised(fbank(wave[None])) for wave in waves])
    assert torch.equal(both, rows)


def test_standardised_bands_have_the_variance_of_a_sample() -> None:
    x = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)) * 7 + 5
    y = standardised(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var(1), torch.ones(2, 3), atol=1e-5, rtol=0)  # over F - 1


def test_pairs_are_two_frames_one_after_the_other() -> None:
    x = torch.arange(10.0).view(1, 5, 2)
    assert paired(x).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert paired(x[:, :1]).shape == (1, 0, 4)
