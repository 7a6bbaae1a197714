"""A voice that beeps: each letter is a tone, so that what was said can be told from the sound.

It keeps the laws of `Speaker`: a line sounds the same alone, in a batch and streamed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.systems.transcriber import TranscribeAsk
from alm_cli.values import Audio, Segment, Transcript, Word

if TYPE_CHECKING:
    # torch would be most of what a process does.
    from alm_cli.systems.codec import Codec

RATE = 16_000
LETTER_S, GAP_S, LEAD_S, TAIL_S = 0.06, 0.04, 0.05, 0.12
PITCHES = {chr(ord("a") + place): 300.0 + 100.0 * place for place in range(26)}


class Beeper:
    """A speaker with two voices; `mumbles` are the seeds whose first word comes out wrong."""

    name, weights_sha256, rate = "beeper", "be" * 32, RATE
    voices = ("low", "high")
    language = "en"

    def __init__(self, codec: Codec | None = None, longest: int = 80) -> None:
        self.longest = longest
        self._codec = codec
        self.mumbles: set[int] = set()
        self.said: list[list[Line]] = []
        self.returns = True

    def voice(self, source: str | Path | Audio | None) -> object:
        if source is None:
            return "low"
        if isinstance(source, Audio) or Path(source).is_file():
            return "high"
        if source not in self.voices:
            raise InputError(f"{source}: beeper has no such voice", hint="low or high")
        return source

    def check(self, text: str) -> None:
        if "[[" in text:
            raise InputError("beeper says no phonemes")
        if strange := re.sub(r"[A-Za-z .,:;!?'-]", "", text):
            raise InputError(f"beeper cannot say {strange[0]!r}")

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        self.said.append(list(lines))
        return [self._spoken(line) for line in lines]

    def stream(self, line: Line) -> Generator[NDArray[np.float32], None, Spoken | None]:
        spoken = self._spoken(line)
        for start in range(0, len(spoken.samples), 777):
            yield spoken.samples[start : start + 777]
        return spoken if self.returns else None

    def _spoken(self, line: Line) -> Spoken:
        self.check(line.text)
        if line.top_k == 7:
            raise InputError("beeper cannot do this")
        words = re.findall(r"[a-z']+", line.text.lower())
        if line.seed in self.mumbles:
            words[0] = "z" * len(words[0])
        parts = [("", LEAD_S)]
        for place, word in enumerate(words):
            parts += [("", GAP_S)] * bool(place)
            parts += [(letter, LETTER_S) for letter in word.replace("'", "")]
        parts.append(("", TAIL_S))
        natural = np.concatenate([[0.0], np.cumsum([seconds for _, seconds in parts])])
        total = line.duration_s or natural[-1] / line.speed
        edges = np.rint(natural / natural[-1] * round(total * RATE)).astype(int)
        samples = self._sound(line, [letter for letter, _ in parts], edges)
        spoken = Spoken(samples=samples, words=_timed(words, parts, edges))
        if self._codec is None:
            return spoken
        tokens = self._codec.encode(Audio(samples[None], RATE))
        return replace(spoken, tokens=tokens, samples=self._codec.decode(tokens).samples[0])

    def _sound(
        self, line: Line, letters: Sequence[str], edges: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        generator = np.random.default_rng(line.seed)
        samples = 1e-5 * generator.standard_normal(edges[-1])
        high = 1.5 if line.voice == "high" else 1.0
        # What was said before can be heard, a little: tests see that it is handed on.
        loud = 0.2 if line.before is None else 0.2 + 1e-6 * (len(line.before.samples) % 1000)
        for letter, start, end in zip(letters, edges, edges[1:], strict=False):
            if letter:
                when = np.arange(end - start) / RATE
                wave = np.sin(2 * np.pi * high * PITCHES[letter] * when)
                samples[start:end] += loud * (0.95 + 0.1 * generator.random()) * wave
        return samples.astype(np.float32)


class BeepListener:
    """Writes down what a beeper of the low voice and natural speed says."""

    name, weights_sha256 = "beep listener", "ee" * 32

    def __init__(self) -> None:
        self.heard = 0

    def transcribe(self, audio: Audio, ask: TranscribeAsk = TranscribeAsk()) -> Transcript:  # noqa: ARG002
        self.heard += 1
        samples, size = audio.samples[0], round(LETTER_S * RATE)
        loud = np.abs(samples) > 0.01
        text, place = "", int(loud.argmax())
        while place + size // 2 < len(samples):
            piece = samples[place : place + size]
            if np.abs(piece[: size // 3]).max() < 0.01:
                text += "" if text.endswith(" ") else " "
                place += round(GAP_S * RATE)
                continue
            spectrum = np.abs(np.fft.rfft(piece, RATE))
            text += min(PITCHES, key=lambda letter: abs(PITCHES[letter] - int(spectrum.argmax())))
            place += size
        segment = Segment(start_s=0.0, end_s=audio.seconds, text=text.strip())
        return Transcript(
            segments=(segment,), language="en", model=self.name, weights_sha256="ee" * 32
        )

    def segments(self, *_: object) -> None:
        raise NotImplementedError


def _timed(
    words: Sequence[str], parts: Sequence[tuple[str, float]], edges: NDArray[np.int64]
) -> tuple[Word, ...]:
    place, found = 1, []
    for word in words:
        count = len(word.replace("'", ""))
        start, end = edges[place] / RATE, edges[place + count] / RATE
        found.append(Word(start_s=float(start), end_s=float(end), text=f" {word}"))
        place += count + 1
    assert place == len(parts)
    return tuple(found)
