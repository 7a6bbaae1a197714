"""A composer that hums: a tone as high as the prompt is long, so that a test can tell pieces apart.

It keeps the laws of `Composer`: a piece sounds the same alone, in a batch and streamed.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.music.score import Note, Score, Tags
from alm_cli.systems.composer import Music, Piece
from alm_cli.values import Audio

if TYPE_CHECKING:
    # torch would be most of what a process does.
    from alm_cli.systems.codec import Codec

RATE, BAR_S = 16_000, 0.25
CHUNK = 777
KNOWN = {"calm", "fast", "piano", "song"}


class Hummer:
    """A composer that knows four words; it plays no bagpipes, and breaks at a bomb."""

    name, weights_sha256, rate = "hummer", "aa" * 32, RATE
    codec = "alm-codec"

    def __init__(
        self, codec: Codec | None = None, channels: int = 1, *, notes: bool = True
    ) -> None:
        self.channels, self._codec, self._notes = channels, codec, notes
        self.made: list[list[Piece]] = []

    def check(self, piece: Piece) -> tuple[str, ...]:
        if "bagpipes" in piece.prompt:
            raise InputError("hummer has no bagpipes", hint="piano")
        words = piece.prompt.lower().replace(",", " ").split()
        return tuple(f"{word!r} has no effect" for word in words if word not in KNOWN)

    def compose(self, pieces: Sequence[Piece]) -> list[Music]:
        self.made.append(list(pieces))
        return [self._music(piece) for piece in pieces]

    def stream(self, piece: Piece) -> Generator[NDArray[np.float32], None, Music]:
        self.made.append([piece])
        music = self._music(piece)
        for start in range(0, music.samples.shape[1], CHUNK):
            yield music.samples[:, start : start + CHUNK]
        return music

    def _music(self, piece: Piece) -> Music:
        self.check(piece)
        if "bomb" in piece.prompt:
            raise RuntimeError("boom")
        seconds = piece.seconds
        if piece.loop:
            seconds = max(1, round(seconds / BAR_S)) * BAR_S
        length = round(seconds * RATE)
        word = f"{piece.prompt} {piece.seed} {piece.guidance} {piece.temperature}"
        noise = np.random.default_rng(zlib.crc32(word.encode()))
        pitch = 200.0 + 5 * len(piece.prompt)
        if isinstance(piece.melody, Score):
            pitch = 440 * 2 ** ((piece.melody.notes[0].pitch - 69) / 12)
        # What it follows and goes on from can be heard, a little: tests see that it is handed on.
        loud = 0.2 + 0.1 * isinstance(piece.melody, Audio) + 0.05 * (piece.past is not None)
        tone = loud * np.sin(2 * np.pi * pitch * np.arange(length) / RATE)
        samples = tone + 1e-3 * noise.standard_normal((self.channels, length))
        score = None
        if self._notes:
            note = Note(0.0, 60 + len(piece.prompt) % 12, seconds, 0.5, "piano")
            score = Score((note,), seconds, Tags("pop", ("piano",), 60 / (BAR_S / 4), 0, "major"))
        facts = {"words": " ".join(sorted(KNOWN & set(piece.prompt.split())))}
        music = Music(samples=samples.astype(np.float32), score=score, facts=facts)
        if self._codec is None:
            return music
        tokens = self._codec.encode(Audio(music.samples, RATE))
        return replace(music, tokens=tokens, samples=self._codec.decode(tokens).samples)
