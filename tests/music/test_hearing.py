"""Tempo and key: of notes and of recordings whose tempo and key are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alm_cli.music.compose import compose
from alm_cli.music.genres import GENRES
from alm_cli.music.hearing import key_in, key_of, pulse_in, pulse_of
from alm_cli.music.score import DRUMS, Note
from alm_cli.music.words import read_prompt
from alm_cli.values import Audio
from tests.music.tones import recording

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Of degrees, home and its chord the most.
TUNE = (0, 2, 4, 0, 3, 5, 4, 2, 1, 4, 6, 4, 0, 2, 4, 0)


def clicks(bpm: float, seconds: float = 12.0, first_s: float = 0.2) -> list[Note]:
    """Beats, each second one with a half."""
    beat = 60 / bpm
    count = int((seconds - first_s) / beat)
    whole = [Note(first_s + n * beat, 38, 0.1, 1.0, DRUMS) for n in range(count)]
    return whole + [Note(n.start + beat / 2, 42, 0.1, 0.4, DRUMS) for n in whole[:-1:2]]


def tune(tonic: int, mode: str, beat: float = 0.5) -> list[Note]:
    return [
        Note(n * beat, 60 + tonic + SCALES[mode][degree], beat * 0.95, 1.0, "flute")
        for n, degree in enumerate(TUNE)
    ] + [Note(n * 4 * beat, 48 + tonic, 4 * beat, 0.6, "piano") for n in range(4)]


@pytest.mark.parametrize("bpm", [82, 95, 108, 127.5, 140])
def test_the_pulse_of_clicks_is_found(bpm: float) -> None:
    found = pulse_of(clicks(bpm))
    assert found.bpm == pytest.approx(bpm, rel=0.002)
    assert found.first_s == pytest.approx(0.2, abs=0.01) and found.clarity > 0.6
    heard = pulse_in(recording(clicks(bpm), 12.0))
    assert heard.bpm == pytest.approx(bpm, rel=0.01)
    assert heard.first_s == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("bpm", [66, *range(72, 181, 12)])
def test_the_pulse_of_bare_beats_is_found(bpm: float) -> None:
    """Slower ones are as much half beats of twice the tempo."""
    beats = [note for note in clicks(bpm) if note.velocity == 1]
    assert pulse_of(beats).bpm == pytest.approx(bpm, rel=0.002)
    assert pulse_in(recording(beats, 12.0, 8_000)).bpm == pytest.approx(bpm, rel=0.01)


def test_the_pulse_of_composed_music_is_mostly_the_one_it_has() -> None:
    """At tempi that are usual in the genre; slow ones are not taken for twice as fast."""
    found = {}
    for genre, usual in GENRES.items():
        low, high = usual.bpm
        for seed, bpm in enumerate(np.linspace(low, high, 3).round()):
            tags = replace(read_prompt(genre, seed).tags, bpm=float(bpm), meter="4/4")
            heard = pulse_of(compose(tags, 20.0, seed).notes).bpm
            found[genre, float(bpm)] = heard == pytest.approx(bpm, rel=0.02)
    slow = [right for (_, bpm), right in found.items() if bpm < 80]
    assert sum(found.values()) >= 0.75 * len(found) and sum(slow) >= 0.4 * len(slow), found


def test_of_long_recordings_the_end_counts() -> None:
    late = [note for note in clicks(100, 80.0) if note.start >= 20]
    heard = pulse_in(recording(late, 80.0, 8_000))
    beat = 60 / heard.bpm
    assert heard.bpm == pytest.approx(100, rel=0.002)
    assert abs((heard.first_s - 0.2 + beat / 2) % beat - beat / 2) < 0.04


@pytest.mark.parametrize("mode", SCALES)
@pytest.mark.parametrize("tonic", range(12))
def test_keys_of_notes_are_found(tonic: int, mode: str) -> None:
    found = key_of(tune(tonic, mode))
    assert (found.tonic, found.mode) == (tonic, mode) and 0.5 < found.fit <= 1


@pytest.mark.parametrize(("tonic", "mode"), [(0, "minor"), (6, "major"), (10, "minor")])
def test_keys_of_recordings_are_found(tonic: int, mode: str) -> None:
    found = key_in(recording(tune(tonic, mode), 8.0, 24_000))
    assert (found.tonic, found.mode) == (tonic, mode)


def test_drums_have_no_key() -> None:
    found = key_of([*tune(3, "minor"), *(Note(n / 10, 61, 1, 1, DRUMS) for n in range(100))])
    assert (found.tonic, found.mode) == (3, "minor")


@pytest.mark.parametrize("length", [0, 1, 100, 5000, 40_000])
def test_silence_has_no_tempo_and_no_key(length: int) -> None:
    silence = Audio(np.zeros((1, length), np.float32), 16_000)
    assert pulse_in(silence).clarity == 0 and key_in(silence).fit == 0
    assert pulse_of([]).bpm == 120 and key_of([]).fit == 0
