"""Whisper's log-mel in steps equals that of `openai-whisper`, whole and in streams."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.log_mel import HOP, SILENCE, LogMel, floored
from alm_cli.nn.state import State
from tests.laws import every, past_is_fixed, streaming_equals_whole

# Around half a window, a hop, a window and seven hops, and primes.
LENGTHS = (201, 319, 320, 321, 399, 400, 401, 1119, 1120, 1121, 9973, 48_000)
AFTER = 480_000  # the silence that the original adds


def recording(length: int) -> Tensor:
    """wave [1, 1, T]: noise with a loud click and silence."""
    generator = torch.Generator().manual_seed(length)
    wave = 0.1 * torch.randn(1, 1, length, generator=generator)
    wave[..., length // 3 : length // 2] = 0
    wave[..., length // 4] = 1
    return wave


def scaled(logs: Tensor) -> Tensor:
    """logs [1, M, F] of a whole recording -> what the encoder takes."""
    return floored(logs, logs.amax())


@pytest.mark.oracle
@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("padding", [0, AFTER])
def test_it_is_the_originals(bands: int, padding: int) -> None:
    from whisper.audio import log_mel_spectrogram

    model = LogMel(bands)
    for length in LENGTHS if not padding else (1, 160, 9973, 48_000):
        wave = recording(length) if length > 3 else torch.ones(1, 1, length)
        theirs = log_mel_spectrogram(wave[0, 0], bands, padding=padding)
        ours = scaled(model(torch.nn.functional.pad(wave, (0, padding))))
        assert ours.shape == (1, bands, (length + padding) // HOP)
        torch.testing.assert_close(ours[0], theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [0, 1, 159, 160, 200, 201, 1120, 2003])
def test_a_stream_is_the_whole(length: int) -> None:
    model, wave = LogMel(80), recording(max(length, 4))[..., :length]
    for size in (1, 7, 160, 199, 1000) if length < 300 else (160, 199, 1000):
        streaming_equals_whole(model, wave, every(size, length), atol=1e-6)


def test_a_frame_waits_for_what_its_window_hears_and_for_one_more() -> None:
    model, state, made = LogMel(80), State(), []
    for block in recording(3200).split(320, -1):
        made.append(model(block, state).shape[-1])
    # Frame 0 needs 200 samples, and whether it is the last is known when frame 1 has come.
    assert made[0] == 0 and sum(made) == 3200 // HOP - 2
    past_is_fixed(model, recording(3200), known=1600, settled=9)


def test_trap_the_floor_lies_below_the_loudest_of_the_whole_recording() -> None:
    logs = LogMel(80)(recording(16_000))
    quiet, loudest = scaled(logs), logs.amax() + 3
    after = floored(logs, loudest)
    assert not torch.equal(after, quiet)
    assert float(after.min()) == pytest.approx((float(loudest) - 8 + 4) / 4)


def test_silence_is_the_least_there_is() -> None:
    logs = LogMel(80)(torch.zeros(1, 1, 1600))
    assert torch.equal(logs, torch.full((1, 80, 10), SILENCE))
    assert torch.equal(scaled(logs), torch.full((1, 80, 10), -1.5))


def test_it_computes_in_full_precision_under_autocast() -> None:
    wave = recording(1600)
    with torch.autocast("cpu", torch.bfloat16):
        rough = LogMel(80)(wave)
    assert torch.equal(rough, LogMel(80)(wave))
