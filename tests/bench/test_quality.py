"""The measures agree with what they must be on signals whose answer is known."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from alm_cli.bench.quality import (
    at_rate,
    code_entropy,
    dnsmos,
    estoi,
    log_mel,
    log_mel_distance,
    multi_mel_distance,
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


def test_seven_resolutions_of_ten_times_louder_are_seven() -> None:
    """One decade in each, where nothing is below the floor."""
    audio = noise(length=2 * RATE)
    assert multi_mel_distance(audio, audio) == 0
    louder = Audio(10 * audio.samples, RATE)
    # Some narrow bands hold no frequency of their window: both are at the floor there.
    assert multi_mel_distance(audio, louder) == pytest.approx(7, rel=0.1)
    with pytest.raises(InputError, match="too short"):
        multi_mel_distance(noise(length=1000), noise(length=1000))


def test_dac_counts_the_same_distance() -> None:
    """The loss with the settings of the published training; ends may be padded otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and of its many dependencies
        pytest.importorskip("librosa.filters")
        loss = pytest.importorskip("dac.nn.loss").MelSpectrogramLoss
        signal = pytest.importorskip("audiotools").AudioSignal
        theirs = loss(
            n_mels=[5, 10, 20, 40, 80, 160, 320],
            window_lengths=[32, 64, 128, 256, 512, 1024, 2048],
            mel_fmin=[0] * 7,
            mel_fmax=[None] * 7,
            pow=1.0,
            clamp_eps=1e-5,
            mag_weight=0.0,
        )
        wanted, made = voice(), mixed(voice(), noise(length=2 * RATE), 0.3)
        known = float(theirs(signal(wanted.samples, RATE), signal(made.samples, RATE)))
    assert multi_mel_distance(wanted, made) == pytest.approx(known, rel=1e-4)


def test_a_log_mel_is_that_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    wave = voice().samples[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mel = librosa.feature.melspectrogram(
            y=wave, sr=RATE, n_fft=1024, hop_length=256, n_mels=80, power=1.0, pad_mode="constant"
        )
    known = np.log(np.maximum(mel, 1e-3))
    np.testing.assert_allclose(log_mel(voice())[0].numpy(), known, atol=1e-3)


def test_si_sdr_of_the_example_in_the_documentation_of_torchmetrics() -> None:
    """Without the means, which it calls SI-SNR: 15.0918 dB."""
    target, made = (
        Audio(np.array([samples], np.float32), RATE)
        for samples in ([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0])
    )
    assert si_sdr(target, made) == pytest.approx(15.0918, abs=1e-3)


def test_measures_of_speech_are_those_of_their_packages() -> None:
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    wanted, made = voice(), mixed(voice(), noise(length=2 * RATE), 0.5)
    pair = [at_rate(audio, 16_000).samples[0] for audio in (wanted, made)]
    assert pesq_wb(wanted, made) == pesq.pesq(16_000, *pair, "wb")
    assert stoi(wanted, made) == pystoi.stoi(*pair, 16_000)


def test_visqol_and_dnsmos_are_those_of_their_packages() -> None:
    visqol_api, rated = pytest.importorskip("visqol"), pytest.importorskip("speechmos.dnsmos")
    wanted, made = voice(), mixed(voice(), noise(length=2 * RATE), 0.5)
    api = visqol_api.VisqolApi()
    api.create(mode="audio")
    pair = [at_rate(audio, 48_000).samples[0].astype(np.float64) for audio in (wanted, made)]
    assert visqol(wanted, made) == api.measure_from_arrays(*pair, 48_000).moslqo
    heard = at_rate(made, 16_000).samples[0].clip(-1, 1)
    assert dnsmos(wanted, made) == rated.run(heard, 16_000)["ovrl_mos"]


def test_perplexity_is_how_many_entries_would_do() -> None:
    """Two to the entropy: of 1024 entries used alike 1024, of two used 3:1 1.75."""
    codes = np.stack([np.arange(1024) % 1024, np.arange(1024) % 4 == 0])[None].astype(np.int32)
    bits = code_entropy(codes, (1024, 2))
    assert [2**one for one in bits] == pytest.approx([1024, 4 / 3**0.75])
