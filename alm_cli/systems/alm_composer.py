"""alm-music as a composer: words, tags, a score, codes, and the codec that makes them heard.

See `alm_cli.systems.composer.Composer` for what it can be asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from alm_cli.checkpoints.load import Loaded
from alm_cli.codecs.alm_codec import AlmCodec
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import InputError, UsageError
from alm_cli.lm.alm_music import ROOMS, AlmMusic
from alm_cli.music.compose import compose, looped
from alm_cli.music.hearing import HeardKey, Pulse, key_in, key_of, pulse_in
from alm_cli.music.melody import heard_melody, leading_line
from alm_cli.music.score import Note, Score, Tags
from alm_cli.music.words import Reading, read_prompt
from alm_cli.nn.resample import resampled
from alm_cli.runtime import inference
from alm_cli.systems.codec import Codec, load_codec
from alm_cli.systems.composer import Music, Piece, Samples
from alm_cli.systems.rendering import Rendered, Rendering, Sketch
from alm_cli.values import Audio, Tokens

CODEC = "alm-codec-music"
# Less freely drawn, the later codebooks fall into what is frequent, and grow ever louder.
SAMPLING = Sampling(temperature=1.0, top_k=0)
_ROOM = "room"
# Frames of a recording that a piece goes on from.
_BEFORE = 100
# A loop's end is played on over its beginning for so long.
_SEAM_S = 0.04
# The clarity of a beat from which on it is kept to.
_CLEAR = 0.15
# Frames whose conditions are made together.
_BLOCK = 250


@dataclass(frozen=True)
class _Plan:
    """A piece before it is rendered: what was read, the score, what is to be heard when."""

    reading: Reading
    score: Score
    sketch: Sketch


class AlmComposer:
    """The composer that ships in the package."""

    channels = 1
    codec = CODEC

    def __init__(self, loaded: Loaded, codec: Codec, device: torch.device) -> None:
        self.name, self.weights_sha256 = loaded.name, loaded.weights_sha256
        self.model = cast("AlmMusic", loaded.model).to(device)
        self.rate = self.model.rate
        self._codec, self._device = codec, device
        # They are the codec's, and stored with it.
        codebooks = cast("AlmCodec", codec.model).quantizer.codebooks
        self.model.know([cast("Tensor", book.vectors) for book in codebooks])
        self._rendering = Rendering(self.model, codec, device, name=self.name, kind="alm-music")

    def check(self, piece: Piece) -> tuple[str, ...]:
        """What of the prompt has no effect; InputError: something that it cannot do."""
        if piece.guidance is not None:
            raise InputError(
                f"{self.name} follows its score, not a guidance", hint="leave --guidance out"
            )
        if piece.loop and (piece.melody is not None or piece.past is not None):
            raise InputError("a loop goes on with itself: with no melody and from no recording")
        if isinstance(piece.past, Tokens) and piece.past.origin.codec != self._codec.name:
            raise InputError(
                f"these are tokens of {piece.past.origin.codec}",
                hint=f"go on from a recording, or from tokens of {self._codec.name}",
            )
        return read_prompt(piece.prompt, piece.seed).remarks

    def compose(self, pieces: Sequence[Piece]) -> list[Music]:
        """Pieces together; each sounds as it does alone."""
        plans = [self._plan(piece) for piece in pieces]
        made = self._rendering.all([plan.sketch for plan in plans])
        return [self._music(*row) for row in zip(pieces, plans, made, strict=True)]

    def stream(self, piece: Piece) -> Generator[Samples, None, Music]:
        """The samples of a piece, some frames at a time; a loop at once, when its end is known."""
        plan = self._plan(piece)
        return self._streamed(piece, plan)

    def _streamed(self, piece: Piece, plan: _Plan) -> Generator[Samples, None, Music]:
        if piece.loop:
            music = self._music(piece, plan, self._rendering.all([plan.sketch])[0])
            yield music.samples
            return music
        made = self._rendering.stream(plan.sketch)
        while True:
            try:
                yield next(made)[None]
            except StopIteration as end:
                return self._music(piece, plan, end.value)

    def _plan(self, piece: Piece) -> _Plan:
        self.check(piece)
        reading = read_prompt(piece.prompt, piece.seed)
        with inference():
            if piece.loop:
                return self._loop(piece, reading)
            tags, melody, beat_s = self._followed(piece, reading)
            score = compose(tags, piece.seconds, piece.seed, melody, beat_s=beat_s)
            return _Plan(
                reading=replace(reading, tags=tags),
                score=score,
                sketch=self._sketch(piece, score.notes, round(piece.seconds * self.rate)),
            )

    def _loop(self, piece: Piece, reading: Reading) -> _Plan:
        """Twice the same bars, and a little more: the second time sounds as if it came again."""
        score = looped(reading.tags, piece.seconds, piece.seed)
        times = [
            replace(note, start=note.start + turn * score.seconds)
            for turn in range(3)
            for note in score.notes
        ]
        samples = 2 * round(score.seconds * self.rate) + round(_SEAM_S * self.rate)
        kept = [note for note in times if note.start * self.rate < samples]
        return _Plan(reading=reading, score=score, sketch=self._sketch(piece, kept, samples))

    def _sketch(self, piece: Piece, notes: Sequence[Note], samples: int) -> Sketch:
        events = self.model.events(notes)
        frames = self.model.frames.count(-(-samples // self.model.config.unit))
        # Block by block: what is heard of all notes at all times would be a large matrix.
        edges = [*range(0, frames, _BLOCK), frames]
        parts = [self.model.condition(events, *pair) for pair in pairwise(edges)]
        tone = self.model.rooms.weight[ROOMS.index(_ROOM)][None]
        return Sketch(
            condition=torch.cat(parts),
            tone=tone,
            before=self._before(piece.past),
            samples=samples,
            seed=piece.seed,
            sampling=piece.sampling(SAMPLING),
        )

    def _before(self, past: Audio | Tokens | None) -> Tensor:
        """The last codes of what a piece goes on from [K, P]."""
        if isinstance(past, Audio):
            kept = past.samples[:, -round(_BEFORE * self._codec.hop / self.rate * past.rate) :]
            mono = torch.from_numpy(kept.mean(0, keepdims=True))
            wave = resampled(mono, past.rate, self.rate).numpy()
            past = self._codec.encode(Audio(wave, self.rate), codebooks=self.model.books)
        return self._rendering.last_codes(past, _BEFORE)

    def _followed(self, piece: Piece, reading: Reading) -> tuple[Tags, tuple[Note, ...], float]:
        """Tags that fit what is there already, the notes of a melody, when the first beat is."""
        melody, tags = piece.melody, reading.tags
        if isinstance(melody, Audio):
            notes = heard_melody(melody)
            tags, beat_s = _fitting(tags, pulse_in(melody), key_of(notes))
            return tags, _again(notes, tags, piece.seconds), beat_s
        if melody is not None:
            notes, own = leading_line(melody), melody.tags
            key = key_of(melody.notes)
            tags = replace(tags, bpm=own.bpm, meter=own.meter, tonic=key.tonic, mode=key.mode)
            return tags, _again(notes, tags, piece.seconds), 0.0
        if piece.past is None:
            return tags, (), 0.0
        past = self._codec.decode(piece.past) if isinstance(piece.past, Tokens) else piece.past
        pulse, key = pulse_in(past), key_in(past)
        fitted, _ = _fitting(tags, pulse, key)
        decided = {part.split()[0] for _, what in reading.decided for part in what.split(", ")}
        if "tempo" not in decided:
            tags = replace(tags, bpm=fitted.bpm)
        if not {"key", "mode"} & decided:
            tags = replace(tags, tonic=fitted.tonic, mode=fitted.mode)
        length, beat = past.samples.shape[1] / past.rate, 60 / tags.bpm
        return tags, (), (pulse.first_s - length) % beat if pulse.clarity > _CLEAR else 0.0

    def _music(self, piece: Piece, plan: _Plan, made: Rendered) -> Music:
        tags = plan.score.tags
        facts = {
            "genre": tags.genre,
            "instruments": ", ".join(tags.instruments),
            "tempo": f"{tags.bpm:g} bpm",
            "key": tags.key,
            "meter": tags.meter,
            "mood": tags.mood,
            "decided": "; ".join(f"{words}: {what}" for words, what in plan.reading.decided),
        }
        if not piece.loop:
            return Music(
                samples=made.samples[None], tokens=made.tokens, score=plan.score, facts=facts
            )
        # Its tokens would begin and end inside of frames.
        return Music(samples=self._seamless(made.samples)[None], score=plan.score, facts=facts)

    def _seamless(self, samples: Samples) -> Samples:
        """Of two turns and what follows them: the second, into whose beginning its end leads."""
        seam = round(_SEAM_S * self.rate)
        length = (len(samples) - seam) // 2
        found = samples[length : 2 * length].copy()
        rising = (np.arange(seam, dtype=np.float32) + 0.5) / seam
        found[:seam] = rising * found[:seam] + (1 - rising) * samples[2 * length :]
        return found


def _fitting(tags: Tags, pulse: Pulse, key: HeardKey) -> tuple[Tags, float]:
    """Tags with what was heard, where it was clear, and when the first beat is."""
    tags = replace(tags, tonic=key.tonic, mode=key.mode)
    if pulse.clarity <= _CLEAR:
        return tags, 0.0
    return replace(tags, bpm=pulse.bpm), pulse.first_s


def _again(notes: Sequence[Note], tags: Tags, seconds: float) -> tuple[Note, ...]:
    """The notes of a melody, again and again in whole bars, until the seconds are over."""
    end = max(note.start + note.length for note in notes)
    turn = ceil(end / tags.bar_s - 0.05) * tags.bar_s
    return tuple(
        replace(note, start=note.start + number * turn)
        for number in range(ceil(seconds / turn))
        for note in notes
        if note.start + number * turn < seconds
    )


def composer(
    loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str
) -> AlmComposer:
    """alm-music and its codec. UsageError: a dtype that it has not been made for."""
    del source  # all that it needs is in the checkpoint
    if dtype != "float32":
        raise UsageError(f"{loaded.name} is not made to compute in {dtype}", hint="--dtype float32")
    return AlmComposer(loaded, load_codec(CODEC, device=str(device)), device)
