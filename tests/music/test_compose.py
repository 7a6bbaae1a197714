"""Scores that a program composes: what their tags say holds of their notes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from alm_cli.music.compose import compose, looped
from alm_cli.music.dice import Dice
from alm_cli.music.genres import GENRES, MOODS
from alm_cli.music.harmony import SCALES, Chord, Key, fitting, progression, voiced
from alm_cli.music.score import DRUMS, INSTRUMENTS, MODES, NAMES, Note, Score, Tags

TAGS = st.builds(
    Tags,
    genre=st.sampled_from([*GENRES, "unheard of"]),
    instruments=st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True).map(tuple),
    bpm=st.floats(60, 180),
    tonic=st.integers(0, 11),
    mode=st.sampled_from(MODES),
    meter=st.sampled_from(("4/4", "3/4", "6/8")),
    mood=st.sampled_from([*MOODS]),
    density=st.floats(0, 1),
    section=st.sampled_from(("whole", "intro", "verse", "chorus", "bridge", "outro")),
)
PLAIN = Tags("pop", ("piano", "bass", DRUMS), 120.0, 0, "major")


def classes(score: Score) -> Counter[int]:
    """How long each pitch class sounds, of those that are tuned."""
    found: Counter[int] = Counter()
    for note in score.notes:
        if note.instrument != DRUMS:
            found[note.pitch % 12] += round(1000 * note.length)
    return found


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(TAGS, st.floats(1, 60), st.integers(0, 1 << 40))
def test_every_tag_makes_a_score_that_is_sound(tags: Tags, seconds: float, seed: int) -> None:
    score = compose(tags, seconds, seed)
    assert score.notes == tuple(sorted(score.notes))
    assert score.notes
    for note in score.notes:
        assert 0 <= note.start < seconds
        assert note.length >= 0.03
        assert note.start + note.length <= seconds + 0.031
        assert 0 < note.velocity <= 1
        assert 20 <= note.pitch <= 110
        assert note.instrument in tags.instruments


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(TAGS, st.integers(0, 1 << 40))
def test_everybody_plays(tags: Tags, seed: int) -> None:
    score = compose(tags, max(12.0, 4 * tags.bar_s), seed)
    assert {note.instrument for note in score.notes} == set(tags.instruments)


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(TAGS, st.integers(0, 1 << 40))
def test_tones_are_those_of_the_key(tags: Tags, seed: int) -> None:
    found = classes(compose(tags, 30.0, seed))
    scale = {(tags.tonic + step) % 12 for step in SCALES[tags.mode]}
    inside = sum(time for name, time in found.items() if name in scale)
    # A minor key borrows its dominant; a walking bass leads from below.
    assert inside >= 0.75 * sum(found.values())


def test_a_piece_ends_at_home() -> None:
    for seed in range(5):
        score = compose(PLAIN, 16.0, seed)
        last = max(note.start for note in score.notes)
        ending = [n for n in score.notes if n.start >= last - 0.01 and n.instrument != DRUMS]
        assert {note.pitch % 12 for note in ending} <= {0, 4, 7}
        assert min(ending, key=lambda n: n.pitch).pitch % 12 == 0


@pytest.mark.parametrize("bpm", [60.0, 97.5, 180.0])
def test_drums_keep_the_tempo(bpm: float) -> None:
    score = compose(Tags("rock", (DRUMS,), bpm, 0, "minor"), 20.0, 3)
    kicks = [note.start for note in score.notes if note.pitch == 36]
    eighth = 30 / bpm
    for start in kicks:
        assert abs(start / eighth - round(start / eighth)) < 0.01


def test_jazz_swings_and_rock_does_not() -> None:
    for genre, off in (("jazz", 2 / 3), ("rock", 0.5)):
        score = compose(Tags(genre, ("piano", DRUMS), 120.0, 0, "major", density=0.8), 16.0, 1)
        # Beats of half a second; a strummed chord begins a little late.
        parts = {round(note.start * 2 % 1, 2) for note in score.notes if note.instrument == DRUMS}
        assert round(off, 2) in parts
        assert round(0.5 + 2 / 3 - off, 2) not in parts


def test_seeds_and_tags_matter_and_nothing_else() -> None:
    assert compose(PLAIN, 10.0, 1) == compose(PLAIN, 10.0, 1)
    assert compose(PLAIN, 10.0, 1) != compose(PLAIN, 10.0, 2)
    # Known numbers: what a seed gives is promised to every version of Python.
    assert round(Dice("a").between(0, 9), 6) == 2.448266


def test_a_loop_is_whole_bars() -> None:
    for seconds in (1.0, 7.3, 16.0):
        score = looped(PLAIN, seconds, 4)
        assert score.seconds / PLAIN.bar_s == pytest.approx(round(score.seconds / PLAIN.bar_s))
        assert abs(score.seconds - seconds) <= max(PLAIN.bar_s / 2, PLAIN.bar_s - seconds)
        # It has no end: the last bar is played like all the others.
        assert max(n.start for n in score.notes) > score.seconds - PLAIN.bar_s / 2


def test_a_melody_is_played_as_it_is_over_chords_that_fit() -> None:
    pitches = (60, 62, 64, 65, 67, 69, 71, 72)
    melody = [Note(0.5 * n, p, 0.45, 0.8, "flute") for n, p in enumerate(pitches * 2)]
    tags = Tags("pop", ("flute", "piano"), 120.0, 0, "major")
    score = compose(tags, 9.0, 0, melody)
    played = [note for note in score.notes if note.instrument == "flute" and note.start < 7.9]
    assert [n.start for n in played] == [n.start for n in melody]
    assert len({a.pitch - b.pitch for a, b in zip(played, melody, strict=True)}) == 1
    assert (played[0].pitch - melody[0].pitch) % 12 == 0


@given(st.integers(0, 11), st.sampled_from(MODES), st.integers(24, 96), st.integers(-9, 9))
def test_steps_of_a_scale_there_and_back(tonic: int, mode: str, pitch: int, steps: int) -> None:
    key = Key(tonic, mode)
    on = key.walk(pitch, 0)
    assert 0 <= pitch - on <= 2
    assert on % 12 in key.scale
    assert key.walk(key.walk(on, steps), -steps) == on
    assert (key.walk(on, steps) - on) * steps >= 0


@given(st.sampled_from(MODES), st.integers(1, 16), st.booleans(), st.integers(0, 1 << 30))
def test_progressions_end_where_they_shall(mode: str, bars: int, ends: bool, seed: int) -> None:
    degrees = progression(Key(0, mode), bars, Dice(seed), ends=ends)
    assert len(degrees) == bars
    assert degrees[0] == 0
    if bars > 1:
        assert (degrees[-1] == 0) == ends


def test_chords_fit_what_is_heard() -> None:
    key = Key(0, "major")
    triads = [dict.fromkeys(key.chord(degree).classes, 1.0) for degree in (0, 3, 4, 0)]
    assert fitting(key, triads) == [0, 3, 4, 0]


def test_voices_move_little() -> None:
    near: list[int] = []
    rows = []
    for root in (0, 5, 7, 0, 9, 2, 7, 0):
        near = voiced(Chord((root, (root + 4) % 12, (root + 7) % 12)), near, 60)
        rows.append(near)
    assert all(50 <= pitch <= 75 for row in rows for pitch in row)
    moves = [abs(a - b) for one, two in pairwise(rows) for a, b in zip(one, two, strict=True)]
    assert sum(moves) / len(moves) <= 3


def test_programs_are_those_of_general_midi() -> None:
    assert len(set(INSTRUMENTS.values())) == len(INSTRUMENTS)
    assert all(0 <= program < 128 for program in INSTRUMENTS.values())
