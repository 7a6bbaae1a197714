"""Integrated loudness against the recommendation, torchaudio, and what must never happen."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.systems.loudness import _weighting, gain_to, loudness

Samples = NDArray[np.float32]
RATES = (8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000)


def sine(hertz: float, seconds: float, rate: int = 48_000, channels: int = 1) -> Samples:
    """samples [C, T] of amplitude 1."""
    places = np.arange(round(seconds * rate)) / rate
    return np.tile(np.sin(2 * np.pi * hertz * places), (channels, 1)).astype(np.float32)


def recording(rate: int, seconds: float = 3.37, channels: int = 1) -> Samples:
    """Noise that swells over a hum, then a quiet second that the gate leaves out."""
    random, length = np.random.default_rng(rate), round(seconds * rate)
    places = np.arange(length) / rate
    noise = random.standard_normal((channels, length)) * 0.1 * (1 + np.sin(3 * places))
    wave = noise + 0.2 * np.sin(2 * np.pi * 100 * places)
    return (wave * np.where(places > seconds - 1, 0.003, 1)).astype(np.float32)


def torchaudio_loudness(samples: Samples, rate: int) -> float:
    from torchaudio.functional import loudness as theirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it divides by the number of loud windows, if any
        return float(theirs(torch.from_numpy(samples), rate))


def test_a_full_scale_sine_is_what_the_recommendation_says() -> None:
    # BS.1770: 997 Hz at 0 dBFS in the left, centre or right channel reads -3.01 LKFS.
    assert loudness([sine(997, 2)], 48_000) == pytest.approx(-3.01, abs=0.005)
    assert loudness([sine(997, 2, channels=2)], 48_000) == pytest.approx(0.0, abs=0.005)


def test_the_weighting_is_the_table_of_the_recommendation() -> None:
    size = 4096
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    tables = (
        ([1.53512485958697, -2.69169618940638, 1.19839281085285],
         [1.0, -1.69065929318241, 0.73248077421585]),
        ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]),
    )  # fmt: skip
    table = np.prod([np.polyval(b[::-1], delay) / np.polyval(a[::-1], delay) for b, a in tables], 0)
    np.testing.assert_allclose(_weighting(48_000, size), table, atol=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("rate", RATES)
def test_it_is_that_of_torchaudio(rate: int) -> None:
    for channels in (1, 2, 5):
        samples = recording(rate, channels=channels)
        assert loudness([samples], rate) == pytest.approx(
            torchaudio_loudness(samples, rate), abs=0.1
        )


@pytest.mark.oracle
def test_it_is_that_of_torchaudio_for_real_recordings(shared: Path) -> None:
    from alm_cli.files.audio import read_audio

    for file in sorted((shared / "audio" / "languages").rglob("leopard_*.wav")):
        audio = read_audio(file)
        ours = loudness([audio.samples], audio.rate)
        assert ours == pytest.approx(torchaudio_loudness(audio.samples, audio.rate), abs=0.1)


@pytest.mark.oracle
@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_it_is_that_of_audiotools_which_dac_uses(rate: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its many dependencies
        package = pytest.importorskip("audiotools", reason="descript-audiotools is not installed")
        for channels in (1, 2):
            samples = recording(rate, channels=channels)
            theirs = float(package.AudioSignal(torch.from_numpy(samples)[None], rate).loudness())
            assert loudness([samples], rate) == pytest.approx(theirs, abs=0.1)
            brought = package.AudioSignal(torch.from_numpy(samples)[None], rate).normalize(-16)
            gain = 10 ** (gain_to(-16.0, [samples], rate) / 20)
            np.testing.assert_allclose(brought.audio_data[0], samples * gain, rtol=0.012)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 30_000), max_size=8), st.sampled_from([8000, 11_025, 44_100]))
def test_any_blocks_give_the_same(cuts: list[int], rate: int) -> None:
    samples = recording(rate, seconds=1.9, channels=2)
    edges = [0, *sorted(cuts), samples.shape[1]]
    blocks = [samples[:, a:b] for a, b in zip(edges, edges[1:], strict=False)]
    whole = loudness([samples], rate)
    assert whole is not None
    assert loudness(blocks, rate) == pytest.approx(whole, abs=1e-9)


def test_quiet_passages_do_not_count() -> None:
    loud, rate = sine(997, 5), 48_000
    whole = loudness([loud], rate)
    assert whole is not None
    # Windows across the border count, and at the end they are few.
    assert loudness([loud, loud * 1e-5], rate) == pytest.approx(whole, abs=0.3)
    assert loudness([loud, loud[:, :rate] * 0.1], rate) == pytest.approx(whole, abs=0.3)
    half = loudness([loud, loud * 0.5], rate)
    assert half is not None and whole - 2.2 < half < whole - 1.8


def test_surround_channels_count_for_more_and_the_low_frequencies_for_nothing() -> None:
    rate, one = 48_000, sine(997, 1)
    silence = np.zeros_like(one)

    def only(channel: int, channels: int) -> float | None:
        rows = [one if index == channel else silence for index in range(channels)]
        return loudness([np.concatenate(rows)], rate)

    front, side = only(0, 6), only(4, 6)
    assert front == pytest.approx(-3.01, abs=0.01) and side is not None
    assert side == pytest.approx(-3.01 + 10 * np.log10(1.41), abs=0.01)
    assert only(3, 6) is None
    assert only(3, 5) == pytest.approx(side, abs=1e-9)


@pytest.mark.parametrize("rate", [100, 1000, 3000, 8000, 48_000, 384_000])
@pytest.mark.parametrize("length", [0, 1, 39, 40, 41, 1000])
def test_it_is_a_finite_number_or_nothing(rate: int, length: int) -> None:
    noise = np.random.default_rng(0).standard_normal((2, length)).astype(np.float32)
    for samples in (noise, noise * 0, noise * 1e-20, noise * 1e18):
        measured = loudness([samples], rate)
        assert measured is None or np.isfinite(measured)
        if length < 0.4 * rate or not samples.any():
            assert measured is None
        assert np.isfinite(gain_to(-16.0, [samples], rate))


def test_samples_that_are_no_numbers_have_no_loudness() -> None:
    samples = recording(8000)
    samples[0, 5000] = np.nan
    assert loudness([samples], 8000) is None and gain_to(-16.0, [samples], 8000) == 0.0


def test_the_gain_brings_it_to_the_target() -> None:
    for rate in (16_000, 44_100):
        samples = recording(rate) * 0.1
        gain = gain_to(-23.0, [samples], rate)
        assert loudness([samples * 10 ** (gain / 20)], rate) == pytest.approx(-23, abs=1e-4)


def test_the_gain_leaves_every_sample_within_one() -> None:
    quiet = recording(16_000) * 0.01
    quiet[0, 777] = 0.9
    gain = gain_to(-16.0, np.array_split(quiet, 5, axis=1), 16_000)
    assert np.abs(quiet * 10 ** (gain / 20)).max() == pytest.approx(1, abs=1e-6)
    loud = sine(997, 1) * 8
    gain = gain_to(0.0, [loud], 48_000)
    assert gain == pytest.approx(-20 * np.log10(8), abs=1e-4)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.399])
def test_where_loudness_is_not_defined_nothing_is_changed(seconds: float) -> None:
    assert gain_to(-16.0, [sine(440, seconds)], 48_000) == 0.0
    assert gain_to(-16.0, [np.zeros((2, 96_000), np.float32)], 48_000) == 0.0
    assert gain_to(-16.0, [], 48_000) == 0.0
