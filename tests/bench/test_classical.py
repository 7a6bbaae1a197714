"""Opus and MP3 come back in time, in length, and better with more bits."""

from __future__ import annotations

import numpy as np
import pytest

from alm_cli.bench.classical import classical
from alm_cli.bench.quality import log_mel_distance, si_sdr
from alm_cli.errors import UsageError
from alm_cli.values import Audio


def song(rate: int, seconds: float = 1.0) -> Audio:
    """A few partials that come and go."""
    times = np.arange(round(rate * seconds)) / rate
    notes = sum(np.sin(2 * np.pi * f * times * (1 + times / 9)) for f in (220.0, 331.0, 470.0))
    return Audio((0.1 * notes * np.sin(5 * times) ** 2).astype(np.float32)[None], rate)


@pytest.mark.parametrize("text", ["opus:24", "mp3:64"])
@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 48_000])
def test_what_comes_back_is_in_time(text: str, rate: int) -> None:
    audio = song(rate)
    decoded, size = classical(text).through(audio)
    assert decoded.samples.shape == audio.samples.shape and decoded.rate == rate
    assert size > 500
    late = Audio(np.roll(decoded.samples, 40, 1), rate)
    assert si_sdr(audio, decoded) > 3 + si_sdr(audio, late)


@pytest.mark.parametrize(("low", "high"), [("opus:6", "opus:24"), ("mp3:16", "mp3:64")])
def test_more_bits_are_better(low: str, high: str) -> None:
    audio = song(24_000)
    (bad, small), (good, large) = (classical(text).through(audio) for text in (low, high))
    assert small < large
    assert log_mel_distance(audio, good) < log_mel_distance(audio, bad)


@pytest.mark.parametrize("length", [1, 100, 2000])
def test_short_and_silent_recordings_keep_their_length(length: int) -> None:
    decoded, _ = classical("opus").through(Audio(np.zeros((1, length), np.float32), 24_000))
    assert decoded.length == length


@pytest.mark.parametrize("text", ["", "aac", "opus:", "opus:x", "mp3:-3", "opus:6:7"])
def test_others_are_refused(text: str) -> None:
    if text == "opus:":
        assert classical(text).kbps == 12
        return
    with pytest.raises(UsageError, match="--against"):
        classical(text)
