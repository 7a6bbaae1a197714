"""What prompts ask for is in the notes: tempo, key, instruments, however it is composed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alm_cli.music.compose import compose
from alm_cli.music.genres import GENRES
from alm_cli.music.harmony import SCALES
from alm_cli.music.hearing import key_of, pulse_of
from alm_cli.music.midi import read_midi, write_midi
from alm_cli.music.score import DRUMS, Score
from alm_cli.music.words import read_prompt

SECONDS = 24.0


def score(prompt: str, seed: int) -> Score:
    return compose(read_prompt(prompt, seed).tags, SECONDS, seed)


@pytest.mark.parametrize("genre", GENRES)
def test_notes_are_in_the_key_and_on_the_beat(genre: str) -> None:
    right = 0
    for seed in range(4):
        made = score(genre, seed)
        tags = made.tags
        tuned = [note for note in made.notes if note.instrument != DRUMS]
        scale = {(tags.tonic + step) % 12 for step in SCALES[tags.mode]}
        # A minor key borrows the leading tone of its major, a walking bass walks between.
        assert sum(note.pitch % 12 in scale for note in tuned) >= 0.8 * len(tuned)
        found = key_of(made.notes)
        fifths = {tags.tonic, (tags.tonic + 5) % 12, (tags.tonic + 7) % 12}
        right += found.tonic in fifths or abs(found.tonic - tags.tonic) % 12 in (3, 9)
        levels = [tags.bpm * level for level in (0.25, 1 / 3, 0.5, 2 / 3, 1, 1.5, 2, 3, 4)]
        bpm = pulse_of(made.notes).bpm
        assert any(bpm == pytest.approx(level, rel=0.01) for level in levels), (tags, bpm)
    assert right >= 3


def test_tempo_and_instruments_are_those_of_the_prompt() -> None:
    made = score("jazz with saxophone, piano, bass and drums in F major, 140 bpm, 4/4", 3)
    assert {note.instrument for note in made.notes} == set(made.tags.instruments)
    slower = compose(replace(made.tags, bpm=70.0), 2 * SECONDS, 3)
    assert made.tags.bar_s == pytest.approx(60 / 140 * 4) == slower.tags.bar_s / 2


@pytest.mark.parametrize("genre", GENRES)
def test_scores_survive_their_files(genre: str) -> None:
    made = score(genre, 5)
    read = read_midi(write_midi(made))
    assert {note.instrument for note in read.notes} == {note.instrument for note in made.notes}
    assert read.tags.tonic == made.tags.tonic and read.tags.meter == made.tags.meter
    assert read.tags.bpm == pytest.approx(made.tags.bpm, rel=1e-5)
    assert read.seconds == pytest.approx(made.seconds, abs=1e-3)
    starts = {(note.instrument, note.pitch, round(note.start, 2)) for note in read.notes}
    kept = [(n.instrument, n.pitch, round(n.start, 2)) in starts for n in made.notes]
    assert sum(kept) >= 0.98 * len(kept)
