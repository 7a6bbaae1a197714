"""A listener and a talker without networks, whose speed and words are known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.systems.transcriber import RATE, Recording, TranscribeAsk, whole
from alm_cli.values import Audio, Segment, Transcript

Samples = NDArray[np.float32]
# A word lasts so long, in seconds; a pause before the first one is silent.
WORD_S, PAUSE_S = 0.1, 0.05


class Talker:
    """Says every word as a tone; a chunk each, after `think_s` seconds."""

    name, weights_sha256, rate, longest = "talker", "cd" * 32, 8000, 100
    voices = ("low", "high")

    def __init__(self, think_s: float = 0.0) -> None:
        self.think_s = think_s

    def voice(self, source: str | Path | Audio | None) -> object:
        if source not in (None, *self.voices):
            raise InputError(f"no voice {source}")
        return source or self.voices[0]

    def check(self, text: str) -> None:
        if "?" in text:
            raise InputError("cannot ask")

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        return [Spoken(samples=np.concatenate(list(self.stream(line)))) for line in lines]

    def stream(self, line: Line) -> Iterator[Samples]:
        self.check(line.text)
        times = np.arange(round(WORD_S * self.rate)) / self.rate
        tone = np.sin(2 * np.pi * (400 if line.voice == "high" else 200) * times)
        for number, _ in enumerate(line.text.split()):
            time.sleep(self.think_s)
            pause = np.zeros(0 if number else round(PAUSE_S * self.rate))
            yield np.concatenate((pause, 0.5 * tone + 0.2)).astype(np.float32)


class Listener:
    """Writes one word for every begun second, as soon as it has heard the second."""

    name, weights_sha256 = "listener", "ab" * 32

    def __init__(self, words: str = "one two three four five", think_s: float = 0.0) -> None:
        self.words, self.think_s = words.split(), think_s

    def segments(self, recording: Recording, ask: TranscribeAsk) -> Iterator[Segment]:
        assert ask.task == "transcribe"
        heard = 0
        for block in recording():
            before, heard = -(-heard // RATE), heard + len(block)
            for second in range(before, -(-heard // RATE)):
                yield Segment(start_s=second, end_s=second + 1, text=f" {self.words[second]}")
        time.sleep(self.think_s)

    def transcribe(self, audio: Audio, ask: TranscribeAsk = TranscribeAsk()) -> Transcript:
        return whole(self, audio, ask, "en")


def tone(seconds: float, rate: int = RATE) -> Audio:
    """A recording of a tone."""
    times = np.arange(round(seconds * rate)) / rate
    return Audio(0.5 * np.sin(2 * np.pi * 300 * times, dtype=np.float32)[None], rate)
