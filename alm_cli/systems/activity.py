"""Where somebody speaks, from what a model for CTC does not take for a blank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems.emissions import FILE, LIVE, Emissions, emissions
from alm_cli.systems.transcriber import RATE, Blocks

# A frame is a letter from `_LETTER` on; from `_TRACE` on it continues what has begun.
_LETTER, _TRACE = 0.5, 0.1
# Speech needs so many letters, ends after so long without one, and lasts longer than these.
_LETTERS = 2
_HANG_S = 0.6
# Music sounds like letters, though not like certain ones: the mean probability of the likeliest
# letter in frames that are one, counted as if there were one frame more without any.
_CERTAIN = 0.4
_PAD_S = 0.2


class Activity:
    """Finds speech; the model that it listens with knows letters, so that noise is none."""

    def __init__(self, heard: Emissions) -> None:
        self._heard = heard
        silent = [i for i, text in enumerate(heard.vocabulary) if not text.strip()]
        self._silent = sorted({*silent, heard.blank})

    def speech(self, recording: Blocks | NDArray[np.float32]) -> list[tuple[float, float]]:
        """Blocks of samples at 16 kHz, or all of them [n] -> seconds from which to which."""
        blocks = (recording,) if isinstance(recording, np.ndarray) else recording
        return list(self.spans(blocks))

    def spans(self, blocks: Blocks, *, live: bool = False) -> Iterator[tuple[float, float]]:
        """Each stretch of speech as soon as it is over, in seconds; with little delay if `live`."""
        frame_s = self._heard.frame_s
        finder = _Finder(frames=round(_HANG_S / frame_s))
        seen = 0

        def counted() -> Iterator[NDArray[np.float32]]:
            nonlocal seen
            for block in blocks:
                seen += len(block)
                yield block

        for logprobs in self._heard.logprobs(counted(), LIVE if live else FILE):
            chances = np.exp(logprobs)
            letters = 1 - chances[:, self._silent].sum(1)
            chances[:, self._silent] = 0
            for begin, end in finder.push(letters, chances.max(1)):
                yield max(0.0, begin * frame_s - _PAD_S), end * frame_s + _PAD_S
        for begin, end in finder.finish():
            end_s = min(end * frame_s + _PAD_S, seen / RATE)
            yield max(0.0, begin * frame_s - _PAD_S), end_s


class _Finder:
    """Stretches of frames with letters, found with hysteresis."""

    def __init__(self, frames: int) -> None:
        self._hang = frames
        self._frame = 0
        self._begin, self._end, self._count = 0, 0, 0
        self._letter = False
        self._sure, self._certain = 0, 0.0  # frames that are letters, and how surely which

    def push(
        self, letters: NDArray[np.float32], likeliest: NDArray[np.float32]
    ) -> Iterator[tuple[int, int]]:
        """How probable any letter is in the next frames, and which -> stretches that are over."""
        for place in np.flatnonzero(letters >= _TRACE).tolist():
            frame, sure = self._frame + place, bool(letters[place] >= _LETTER)
            if frame - self._end > self._hang:
                yield from self.finish()
            if not self._count and not sure:
                continue
            # A letter may last several frames.
            self._begin = self._begin if self._count else frame
            self._count += sure and not (self._letter and frame == self._end)
            self._sure += sure
            self._certain += float(likeliest[place]) if sure else 0.0
            self._end, self._letter = frame + 1, sure
        self._frame += len(letters)
        if self._frame - self._end > self._hang:
            yield from self.finish()

    def finish(self) -> Iterator[tuple[int, int]]:
        """What has begun, if it is speech."""
        if self._count >= _LETTERS and self._certain >= _CERTAIN * (self._sure + 1):
            yield self._begin, self._end
        self._count, self._letter = 0, False
        self._sure, self._certain = 0, 0.0


def load_activity(
    source: str | Path = "alm-asr", *, device: str = "auto", threads: int | None = None
) -> Activity:
    """A model for CTC, by name, folder or file, as a finder of speech."""
    from alm_cli.checkpoints.load import load
    from alm_cli.runtime import device_of, set_threads

    set_threads(threads)
    return Activity(emissions(load(source), device=device_of(device)))


def speech(
    recording: Blocks | NDArray[np.float32], source: str | Path = "alm-asr"
) -> list[tuple[float, float]]:
    """Blocks of samples at 16 kHz, or all of them [n] -> seconds from which to which one speaks."""
    return load_activity(source).speech(recording)
