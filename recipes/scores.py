"""Compose small random pieces of music, write them as MIDI files and play them to wave files."""

import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

SOUND_FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10),
          (0, 2, 4, 5, 7, 9, 10), (0, 2, 3, 5, 7, 8, 11))  # fmt: skip
PROGRESSIONS = ((0, 4, 5, 3), (0, 3, 4, 0), (5, 3, 0, 4), (0, 5, 1, 4), (1, 4, 0, 0), (0, 6, 5, 4))
DRUMS = 9  # the General MIDI channel for percussion, counted from 0
STYLES = ("solo", "solo", "sparse", "band", "band", "dense", "drums")


class Score:
    """Notes in beats, written as a Standard MIDI file with one track."""

    TICKS = 480

    def __init__(self, tempo: float) -> None:
        self.events: list[tuple[int, bytes]] = []
        self.add(0, b"\xff\x51\x03" + struct.pack(">I", round(60e6 / tempo))[1:])

    def add(self, beat: float, message: bytes) -> None:
        self.events.append((max(0, round(beat * self.TICKS)), message))

    def instrument(self, channel: int, program: int, pan: int = 64, reverb: int = 40) -> None:
        self.add(0, bytes([0xC0 | channel, program]))
        self.add(0, bytes([0xB0 | channel, 10, pan]))
        self.add(0, bytes([0xB0 | channel, 91, reverb]))

    def note(self, channel: int, beat: float, length: float, key: int, velocity: float) -> None:
        loudness = int(np.clip(velocity, 1, 127))
        self.add(beat, bytes([0x90 | channel, key, loudness]))
        self.add(beat + length, bytes([0x80 | channel, key, 0]))

    def write(self, path: str | Path) -> None:
        track, now = bytearray(), 0
        events = sorted(self.events, key=lambda event: event[0])
        for tick, message in [*events, (events[-1][0] + 3 * self.TICKS, b"\xff\x2f\x00")]:
            delta, digits = tick - now, [(tick - now) & 127]
            while delta := delta >> 7:
                digits.insert(0, delta & 127 | 128)
            track, now = track + bytes(digits) + message, tick
        header = struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, self.TICKS, b"MTrk", len(track))
        Path(path).write_bytes(header + track)


def compose(rng: np.random.Generator, programs: Sequence[int], seconds: float, style: str) -> Score:
    """A random piece: chords in a key, a melody walking on its scale, bass, arpeggios, drums."""
    tempo = rng.uniform(60, 170)
    score, bars = Score(tempo), max(1, round(seconds * tempo / 240))
    root, scale = int(rng.integers(48, 60)), SCALES[rng.integers(len(SCALES))]
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    chords = [progression[bar % 4] for bar in range(bars)]

    def key(degree: int, octave: int = 0) -> int:
        pitch = root + 12 * (octave + degree // 7) + scale[degree % 7]
        return int(np.clip(pitch, 24, 103))

    def player(channel: int, choices: Sequence[int]) -> Callable[[float, float, int], None]:
        loudness, jitter = rng.uniform(50, 115), rng.uniform(0, 0.02)
        pan, reverb = int(rng.integers(20, 108)), int(rng.integers(0, 100))
        program = 0 if channel == DRUMS else int(rng.choice(choices))
        score.instrument(channel, program, pan, reverb)

        def play(beat: float, length: float, pitch: int) -> None:
            velocity = loudness + rng.normal(0, 8) + (6 if beat % 2 == 0 else 0)
            score.note(channel, max(0, beat + rng.normal(0, jitter)), length, pitch, velocity)

        return play

    def melody(channel: int, octave: int, rest: float) -> None:
        play, degree, beat = player(channel, programs), int(rng.integers(0, 7)), 0.0
        lengths = rng.choice([0.25, 0.5, 0.5, 0.75, 1, 1, 1.5, 2, 4], 5)
        while beat < 4 * bars:
            length = float(rng.choice(lengths))
            degree = int(np.clip(degree + rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 4]), -5, 12))
            if beat % 2 == 0:  # lean on the chord where the beat is strong
                degree += (chords[int(beat // 4)] - degree) % 2
            if rng.random() > rest:
                play(beat, length * rng.uniform(0.5, 1.0), key(degree, octave))
            beat += length

    def harmony(channel: int, octave: int, step: float, broken: bool) -> None:
        play, shape = player(channel, programs), rng.permutation([0, 2, 4, 7])
        for index, beat in enumerate(np.arange(0, 4 * bars, step)):
            tones = [chords[int(beat // 4)] + int(tone) for tone in shape]
            for tone in [tones[index % 4]] if broken else tones[:3]:
                play(beat, step * rng.uniform(0.7, 1.0), key(tone, octave))

    def bass(channel: int) -> None:
        family = [program for program in programs if program // 8 == 4]
        play, step = player(channel, family), float(rng.choice([0.5, 1, 2]))
        for beat in np.arange(0, 4 * bars, step):
            tone = chords[int(beat // 4)] + int(rng.choice([0, 0, 0, 4, 7]))
            play(beat, step * 0.9, key(tone, -2))

    def drums() -> None:
        play = player(DRUMS, ())
        step, cymbal = float(rng.choice([0.25, 0.5, 1])), int(rng.choice([42, 46, 51, 70, 54]))
        kicks, extra = rng.random(16) < 0.2, rng.random(16) < 0.12
        for sixteenth in range(16 * bars):
            place, beat = sixteenth % 16, sixteenth / 4
            hits = [(place % 8 == 0 or kicks[place], 36), (place % 8 == 4, 38),
                    (beat % step == 0, cymbal), (extra[place], int(rng.integers(39, 76))),
                    (sixteenth % 64 == 0, 49)]  # fmt: skip
            for _, drum in (hit for hit in hits if hit[0]):
                play(beat, 0.2, drum)

    steps = [0.25, 0.5] if style == "dense" else [1, 2, 4]
    if style != "drums":
        melody(0, int(rng.integers(0, 3)), {"sparse": 0.4, "dense": 0.05}.get(style, 0.15))
    if style in ("sparse", "band", "dense"):
        harmony(1, int(rng.integers(-1, 2)), float(rng.choice(steps)) * 1.0, False)
    if style in ("band", "dense"):
        harmony(2, int(rng.integers(0, 2)), float(rng.choice([0.25, 0.5])), True)
    if style in ("band", "dense", "drums"):
        bass(3)
        drums()
    if style == "dense":
        melody(4, 1, 0.1)
    return score


def play_score(score: Score, path: str | Path, rate: int) -> None:
    """Render a score to a stereo wave file."""
    with tempfile.TemporaryDirectory() as folder:
        score.write(f"{folder}/score.mid")
        options = ["-ni", "-q", "-o", "synth.dynamic-sample-loading=1", "-r", str(rate)]
        command = ["fluidsynth", *options, "-F", str(path), SOUND_FONT, f"{folder}/score.mid"]
        subprocess.run(command, check=True, capture_output=True)
