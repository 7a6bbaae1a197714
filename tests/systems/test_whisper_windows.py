"""Windows of log-mel spectra against `openai-whisper`, and in steady memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.systems.whisper_windows import WINDOW_FRAMES, Windows
from tests.decoding.whispers import RATE, Samples, blocks, edge_cases, synthetic

CPU = torch.device("cpu")
CASES = dict(edge_cases())


@pytest.mark.oracle
@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize(
    "name", ["silence", "one sample", "a frame less a sample", "a click", "31 s"]
)
def test_windows_are_cut_from_the_spectra_of_the_other(name: str, bands: int) -> None:
    audio = pytest.importorskip("whisper.audio", reason="needs the package openai-whisper")
    samples = CASES[name]
    expected = audio.log_mel_spectrogram(samples, bands, padding=30 * RATE)
    windows = Windows(blocks(samples, 7_777), bands, device=CPU)
    content = expected.shape[1] - WINDOW_FRAMES
    assert windows.length() == len(samples) // 160 == content
    opening = audio.pad_or_trim(expected, WINDOW_FRAMES)
    torch.testing.assert_close(windows.opening(), opening, atol=1e-6, rtol=0)
    for begin in range(0, content, 1300):
        size = min(WINDOW_FRAMES, content - begin)
        window = audio.pad_or_trim(expected[:, begin : begin + size], WINDOW_FRAMES)
        torch.testing.assert_close(windows.window(begin, size), window, atol=1e-6, rtol=0)


def test_section_5_1_4_a_loud_click_anywhere_changes_every_window() -> None:
    samples = 0.01 * synthetic(40.0, 1)
    clicked = samples.copy()
    clicked[39 * RATE] = 1.0
    plain, loud = (Windows(blocks(s), 80, device=CPU).window(0, 1000) for s in (samples, clicked))
    assert float(loud[:, :1000].min()) > float(plain[:, :1000].min())
    once = [
        Windows(blocks(s), 80, device=CPU, once=True).window(0, 1000) for s in (samples, clicked)
    ]
    assert torch.equal(*once)  # which one reading cannot know


def test_section_5_1_5_windows_are_filled_up_with_what_is_no_silence() -> None:
    windows = Windows(blocks(synthetic(2.0)), 80, device=CPU)
    assert torch.equal(windows.window(100, 100)[:, 100:], torch.zeros(80, 2900))
    assert float(windows.opening()[:, 300:].max()) < 0


class Tape:
    """A long recording that is made as it is read, and counts its readings."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.readings, self.read = minutes, 0, 0

    def __call__(self) -> Iterator[Samples]:
        self.readings += 1
        self.read = 0
        block = synthetic(10.0)
        for _ in range(round(self.minutes * 6)):
            self.read += len(block)
            yield block


def held(windows: Windows) -> int:
    """Frames in memory."""
    inner: Any = windows
    return sum(part.shape[1] for part in inner._pass._spectra)


def test_short_recordings_are_read_once_and_long_ones_in_steady_memory() -> None:
    short, long = Tape(2), Tape(11)
    windows = Windows(short, 8, device=CPU)
    windows.window(9000, 3000)
    assert short.readings == 1
    windows = Windows(long, 8, device=CPU)
    assert held(windows) <= 200
    for begin in range(0, windows.length(), 2950):
        windows.forget(begin)
        windows.window(begin, min(3000, windows.length() - begin))
        assert held(windows) <= 3500
    assert long.readings == 2
    windows.window(0, 10)  # clips that do not ascend
    assert long.readings == 3


def test_a_stream_is_read_only_as_far_as_is_asked() -> None:
    tape = Tape(1.5)
    windows = Windows(tape, 8, device=CPU, once=True)
    assert windows.length(3000) >= 3000
    assert tape.read <= 40 * RATE
    windows.window(0, 3000)
    assert tape.read <= 40 * RATE
    assert windows.length() == 9_000
    assert tape.readings == 1


def test_the_quietest_moment_is_a_pause() -> None:
    samples = np.sin(np.arange(30 * RATE) / 7).astype(np.float32)
    samples[27 * RATE : 27 * RATE + 8000] *= 1e-3
    windows = Windows(blocks(samples), 80, device=CPU)
    assert 2705 <= windows.quietest(2400, 3000) <= 2745
    assert windows.quietest(2990, 3000) == 3000
