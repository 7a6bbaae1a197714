"""The measures agree with what they must be on signals whose answer is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest

from alm_cli.bench.quality import (
    at_rate,
    code_entropy,
    dnsmos,
    estoi,
    log_mel_distance,
    pesq_wb,
    si_sdr,
    stoi,
    visqol,
)
from alm_cli.errors import InputError, ModelError
from alm_cli.values import Audio

RATE = 24_000
Measure = Callable[[Audio, Audio], float]


def noise(seed: int = 0, *, channels: int = 1, length: int = RATE, rate: int = RATE) -> Audio:
    """White noise at a tenth of full scale."""
    samples = 0.1 * np.random.default_rng(seed).standard_normal((channels, length))
    return Audio(samples.astype(np.float32), rate)


def mixed(audio: Audio, other: Audio, share: float) -> Audio:
    """A recording with some of another on top."""
    return Audio(audio.samples + np.float32(share) * other.samples, audio.rate)


def voice() -> Audio:
    """Two seconds that pass for speech: a buzz whose pitch and loudness move."""
    seconds = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(5 * seconds)) / RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
    loudness = 0.05 + 0.2 * np.square(np.sin(8 * seconds))
    return Audio((loudness * buzz).astype(np.float32)[None], RATE)


@pytest.mark.parametrize("length", [1, 100, RATE])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_is_no_distance_from_itself(channels: int, length: int) -> None:
    audio = noise(channels=channels, length=length)
    assert log_mel_distance(audio, audio) == 0


def test_ten_times_louder_is_the_logarithm_of_ten_away() -> None:
    audio = noise()
    louder = Audio(10 * audio.samples, RATE)
    assert log_mel_distance(audio, louder) == pytest.approx(math.log(10), rel=1e-3)


def test_what_is_below_the_floor_is_silence() -> None:
    faint = Audio(np.float32(1e-6) * noise().samples, RATE)
    assert log_mel_distance(faint, Audio(0 * faint.samples, RATE)) == 0


def test_distance_grows_with_the_noise() -> None:
    audio, other = voice(), noise(1, length=2 * RATE)
    distances = [log_mel_distance(audio, mixed(audio, other, s)) for s in (0.01, 0.1, 1)]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_distance_hears_any_rate() -> None:
    at_16, at_48 = noise(rate=16_000), noise(rate=48_000)
    assert log_mel_distance(at_16, at_16) == log_mel_distance(at_48, at_48) == 0


@pytest.mark.parametrize("decibels", [0, 10, 40])
def test_si_sdr_is_the_ratio_of_independent_noise(decibels: int) -> None:
    audio, other = noise(0, length=10 * RATE), noise(1, length=10 * RATE)
    noisy = mixed(audio, other, 10 ** (-decibels / 20))
    assert si_sdr(audio, noisy) == pytest.approx(decibels, abs=0.2)
    assert si_sdr(audio, Audio(3 * noisy.samples, RATE)) == pytest.approx(decibels, abs=0.2)


def test_si_sdr_of_silence_has_no_meaning() -> None:
    silence = Audio(np.zeros((1, 10), np.float32), RATE)
    with pytest.raises(InputError, match="silent"):
        si_sdr(silence, silence)


@pytest.mark.parametrize(("package", "measure"), [("pesq", pesq_wb), ("pystoi", stoi)])
def test_speech_measures_fall_with_the_noise(package: str, measure: Measure) -> None:
    pytest.importorskip(package)
    audio, other = voice(), noise(1, length=2 * RATE)
    clean, noisy = measure(audio, audio), measure(audio, mixed(audio, other, 1))
    assert clean == pytest.approx({"pesq": 4.644, "pystoi": 1.0}[package], abs=1e-3)
    assert noisy < clean - 0.1


@pytest.mark.parametrize(("package", "measure"), [("pesq", pesq_wb), ("pystoi", stoi)])
def test_speech_measures_say_what_they_cannot_rate(package: str, measure: Measure) -> None:
    pytest.importorskip(package)
    short, stereo = noise(length=200), noise(channels=2)
    silence = Audio(np.zeros((1, RATE), np.float32), RATE)
    for audio in (short, stereo, silence):
        with pytest.raises(InputError):
            measure(audio, audio)


@pytest.mark.parametrize(
    ("package", "measure", "module"),
    [
        ("pesq", pesq_wb, "pesq"),
        ("pystoi", stoi, "pystoi"),
        ("visqol-python", visqol, "visqol"),
        ("speechmos", dnsmos, "speechmos.dnsmos"),
    ],
)
def test_a_missing_package_is_named(
    package: str, measure: Measure, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=package) as caught:
        measure(noise(), noise())
    assert "alm-cli[bench]" in str(caught.value.hint)


@pytest.mark.parametrize(
    "other", [noise(length=10), noise(channels=2), noise(rate=16_000)], ids=["T", "C", "rate"]
)
@pytest.mark.parametrize("measure", [log_mel_distance, si_sdr])
def test_unlike_recordings_cannot_be_compared(measure: Measure, other: Audio) -> None:
    with pytest.raises(InputError, match="cannot compare"):
        measure(noise(), other)


def test_entropy_is_the_bits_that_are_used() -> None:
    even = np.arange(1024, dtype=np.int32)
    codes = np.stack([even, even % 2, 0 * even])[None]
    assert code_entropy(codes, (1024, 1024, 1024, 8)) == pytest.approx((10, 1, 0))
    assert code_entropy(codes[:, :, :0], (1024,) * 3) == (0, 0, 0)
    with pytest.raises(InputError, match="codebooks"):
        code_entropy(codes, (1024,))


def test_extended_stoi_is_that_of_its_package() -> None:
    pystoi = pytest.importorskip("pystoi")
    wanted, made = voice(), mixed(voice(), noise(length=2 * RATE), 0.5)
    pair = (at_rate(audio, 16_000).samples[0] for audio in (wanted, made))
    assert estoi(wanted, made) == pytest.approx(pystoi.stoi(*pair, 16_000, extended=True))
    assert estoi(wanted, made) < stoi(wanted, made) < 1


def test_visqol_rates_equals_best_and_noise_worse() -> None:
    pytest.importorskip("visqol")
    clean, noisy = voice(), mixed(voice(), noise(length=2 * RATE), 0.5)
    # The package's figure of castanets against themselves, and google/visqol's.
    assert visqol(clean, clean) == pytest.approx(4.7321, abs=1e-3)
    assert visqol(clean, noisy) < 4.5
    with pytest.raises(InputError):
        visqol(Audio(0 * clean.samples, clean.rate), noisy)


def test_dnsmos_hears_the_decoded_alone() -> None:
    pytest.importorskip("speechmos")
    clean, noisy = voice(), mixed(voice(), noise(length=2 * RATE), 1.0)
    assert dnsmos(clean, noisy) == dnsmos(noisy, noisy)
    assert 1 <= dnsmos(clean, noisy) <= 5
