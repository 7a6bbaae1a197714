"""Melodies: known tones are found, the leading line of a score, and what has no melody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import InputError
from alm_cli.music.hearing import resampled
from alm_cli.music.melody import LONGEST_S, heard_melody, highest, leading_line, track
from alm_cli.music.score import DRUMS, Note, Score, Tags
from alm_cli.values import Audio
from tests.music.tones import recording

# Up a scale, a tone twice, leaps of octaves, low and high.
PITCHES = (60, 62, 64, 65, 67, 67, 69, 71, 72, 60, 79, 55, 48, 84)
LINE = tuple(
    Note(round(0.3 + 0.4 * n, 3), p, 0.38 if n % 2 else 0.4, 1.0, "flute")
    for n, p in enumerate(PITCHES)
)
TAGS = Tags("jazz", ("piano",), 120, 0, "major")


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 8_000])
@pytest.mark.parametrize("kind", ["flat", "voice", "pluck"])
def test_known_tones_are_found(kind: str, rate: int) -> None:
    found = heard_melody(recording(LINE, 6.5, rate, kind))
    assert tuple(note.pitch for note in found) == PITCHES
    for mine, its in zip(LINE, found, strict=True):
        assert its.start == pytest.approx(mine.start, abs=0.04)
        assert its.length == pytest.approx(mine.length, abs=0.06)
        assert 0.1 <= its.velocity <= 1


@pytest.mark.parametrize("cents", [-40, 25, 45])
def test_an_instrument_out_of_tune_is_heard_on_its_own_pitches(cents: float) -> None:
    found = heard_melody(recording(LINE, 6.5, 16_000, "flat", cents))
    assert tuple(note.pitch for note in found) == PITCHES


def test_pitch_is_exact_to_cents() -> None:
    for pitch in (38, 45, 57, 69, 81, 88):
        wave = recording([Note(0, pitch, 1.0, 1, "flute")], 1.0, 16_000).samples[0]
        pitches, loud_db = track(wave.astype(np.float64))
        assert np.nanmedian(pitches[10:90]) == pytest.approx(pitch, abs=0.05)
        assert np.isfinite(pitches[10:90]).all() and len(pitches) == len(loud_db) == 100


def test_stereo_is_heard_as_one() -> None:
    mono = recording(LINE, 6.5)
    both = Audio(np.concatenate([mono.samples * 0.5, mono.samples * 1.5]), mono.rate)
    assert heard_melody(both) == heard_melody(mono)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((1, 32_000)),
        np.zeros((2, 0)),
        np.zeros((1, 1)),
        np.random.default_rng(0).normal(0, 0.1, (1, 32_000)),
        np.full((1, 32_000), 0.5),
    ],
    ids=["silence", "nothing", "one sample", "noise", "constant"],
)
def test_what_has_no_melody_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(InputError, match="no melody"):
        heard_melody(Audio(samples.astype(np.float32), 16_000))


def test_length_is_limited() -> None:
    with pytest.raises(InputError, match="601 s"):
        heard_melody(Audio(np.zeros((1, 601), np.float32), 1))
    assert LONGEST_S == 600


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 30_000),
    st.sampled_from([8_000, 11_025, 16_000, 44_100, 48_000]),
    st.sampled_from([8_000, 16_000, 11_025]),
)
def test_resampling_keeps_tones_and_time(length: int, rate: int, wanted: int) -> None:
    phase = 2 * np.pi * 1000 * np.arange(length) / rate
    found = resampled(np.sin(phase), rate, wanted)
    assert len(found) == round(length * wanted / rate)
    middle = slice(len(found) // 5, -len(found) // 5)
    if length > rate // 4:
        expected = np.sin(2 * np.pi * 1000 * np.arange(len(found)) / wanted)
        assert np.abs(found - expected)[middle].max() < 0.03


def test_pieces_of_resampling_join() -> None:
    time = np.arange(25 * 8000) / 8000
    found = resampled(np.sin(2 * np.pi * 440 * time), 8000, 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(25 * 16_000) / 16_000)
    assert np.abs(found - expected)[4000:-4000].max() < 0.01


def test_the_highest_line_is_one_note_at_a_time() -> None:
    chord = [Note(0, p, 2.0, 0.5, "piano") for p in (60, 64, 67)]
    melody = [Note(1.0, 72, 0.5, 0.5, "piano"), Note(1.5, 40, 1, 0.5, "piano")]
    assert highest([*chord, *melody]) == (
        Note(0, 67, 1.0, 0.5, "piano"), Note(1.0, 72, 0.5, 0.5, "piano"), melody[1],
    )  # fmt: skip
    assert highest([]) == ()


def test_the_melody_leads() -> None:
    melody = tuple(
        Note(0.5 * n, p, 0.45, 0.5, "flute") for n, p in enumerate((72, 74, 76, 72, 79, 77, 76, 74))
    )
    bass = [Note(n, 36, 0.9, 0.9, "bass") for n in range(4)]
    chords = [Note(n, p, 0.9, 0.9, "piano") for n in range(4) for p in (60, 64, 67)]
    drums = [Note(0.25 * n, 81, 0.1, 1, DRUMS) for n in range(16)]
    score = Score(tuple(sorted([*melody, *bass, *chords, *drums])), 4.0, TAGS)
    assert leading_line(score) == melody
    with pytest.raises(InputError, match="only drums"):
        leading_line(Score(tuple(drums), 4.0, TAGS))
