"""Scores -> sound, by fluidsynth with the soundfont FluidR3 (whose licence is MIT).

    python -m recipes.music_render OUT.wav --genre jazz --seconds 20      hear the composer

Needs the extra `train`, the library fluidsynth 2 and the font (Debian: fluid-soundfont-gm).
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from heapq import heappop, heappush
from pathlib import Path
from random import Random

import fluidsynth
import numpy as np
import soundfile
import torch
import torchaudio.functional

from alm_cli.music.compose import compose
from alm_cli.music.genres import GENRES
from alm_cli.music.score import DRUMS, INSTRUMENTS, NAMES, Score, Tags

FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
RATE = 24_000
# Twice that: the synthesizer does not filter what it plays faster than it was recorded.
_RATE = 48_000
# Room size, damping, width, level of the reverberation.
ROOMS = {
    "dry": None,
    "room": (0.35, 0.3, 0.5, 0.5),
    "hall": (0.75, 0.2, 0.8, 0.65),
}
# Volumes (MIDI's controller 7) that make the instruments about equally loud.
_VOLUMES = {
    "piano": 127, "electric piano": 58, "vibraphone": 100, "organ": 70, "guitar": 78,
    "bass": 68, "strings": 76, "trumpet": 78, "saxophone": 66, "flute": 72, "lead": 60,
    "pad": 78, DRUMS: 108,
}  # fmt: skip
_GAIN = 1.2


@lru_cache(maxsize=3)
def _synthesizer(room: str) -> tuple[fluidsynth.Synth, int]:
    reverb = ROOMS[room]
    synth = fluidsynth.Synth(
        gain=_GAIN,
        samplerate=_RATE,
        channels=16,
        **{"synth.reverb.active": int(reverb is not None), "synth.chorus.active": 0},
    )
    font = synth.sfload(str(FONT))
    if font < 0:
        raise SystemExit(f"{FONT} is not there: apt-get install fluid-soundfont-gm")
    if reverb is not None:
        synth.set_reverb(*reverb)
    return synth, font


def rendered(score: Score, rate: int = RATE, room: str = "room") -> np.ndarray:
    """A score -> mono samples [n] float32, as many as its seconds have."""
    synth, font = _synthesizer(room)
    synth.system_reset()
    if ROOMS[room] is not None:
        synth.set_reverb(*ROOMS[room])
    channels = {name: n + (n >= 9) for n, name in enumerate(INSTRUMENTS)} | {DRUMS: 9}
    for name in {note.instrument for note in score.notes}:
        drums = name == DRUMS
        synth.program_select(
            channels[name], font, 128 if drums else 0, 0 if drums else INSTRUMENTS[name]
        )
        synth.cc(channels[name], 7, _VOLUMES[name])
    total = round(score.seconds * _RATE)
    events: list[tuple[int, int, int, int, int]] = []
    for note in score.notes:
        channel, begin = channels[note.instrument], round(note.start * _RATE)
        heappush(events, (begin, 1, channel, note.pitch, max(1, round(127 * note.velocity))))
        heappush(events, (begin + round(note.length * _RATE), 0, channel, note.pitch, 0))
    parts, now = [], 0
    while events:
        when, begins, channel, pitch, velocity = heappop(events)
        if min(when, total) > now:
            parts.append(synth.get_samples(min(when, total) - now))
            now = min(when, total)
        if begins:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    if total > now:
        parts.append(synth.get_samples(total - now))
    stereo = np.concatenate([np.zeros(0, np.int16), *parts]).reshape(-1, 2)
    mono = torch.from_numpy(stereo.astype(np.float32).mean(1) / 32768)
    heard = torchaudio.functional.resample(mono, _RATE, rate)[: round(score.seconds * rate)]
    return heard.clamp(-0.99, 0.99).numpy()


def some_tags(seed: int | str, genre: str | None = None) -> Tags:
    """Tags of every kind: those usual in a genre, and others."""
    rng = Random(seed)
    name = genre or rng.choice(sorted(GENRES))
    usual = GENRES[name]
    if rng.random() < 0.5:
        instruments = tuple(rng.choice(usual.ensembles))
    else:
        count = rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6))
        instruments = tuple(rng.sample(NAMES, count))
    wide = rng.random() < 0.5
    bpm = rng.uniform(60, 180) if wide else rng.uniform(*usual.bpm)
    modes = ("major", "minor", "dorian", "mixolydian") if wide else usual.modes
    return Tags(
        genre=name,
        instruments=instruments,
        bpm=round(bpm, rng.choice((0, 0, 1))),
        tonic=rng.randrange(12),
        mode=rng.choice(modes),
        meter=rng.choice(usual.meters if rng.random() < 0.8 else ("4/4", "3/4", "6/8")),
        mood=rng.choice(("calm", "dreamy", "sad", "dark", "epic", "happy", "energetic", "tense")),
        density=rng.random() if wide else rng.uniform(*usual.density),
        section=rng.choice(("whole", "whole", "whole", "verse", "chorus", "intro", "outro")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--genre", choices=sorted(GENRES))
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", choices=[*ROOMS], default="room")
    ask = parser.parse_args()
    tags = some_tags(ask.seed, ask.genre)
    print(tags)
    score = compose(tags, ask.seconds, ask.seed)
    soundfile.write(ask.output, rendered(score, room=ask.room), RATE)


if __name__ == "__main__":
    main()
