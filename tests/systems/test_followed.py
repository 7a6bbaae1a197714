"""Melodies as frames of pitches."""

from __future__ import annotations

import numpy as np
import pytest

from alm_cli.errors import InputError
from alm_cli.music.score import Note, Score, Tags
from alm_cli.systems.followed import followed
from alm_cli.values import Audio

TAGS = Tags(genre="pop", instruments=("piano",), bpm=120.0, tonic=0, mode="major")


def pitches(notes: tuple[Note, ...], seconds: float, most: float = 30.0) -> list[int]:
    frames = followed(Score(notes, seconds, TAGS), most)
    assert bool((frames.sum(1) == 1).all())
    return frames.argmax(1).tolist()


def test_the_highest_note_leads_and_a_rest_keeps_the_last() -> None:
    notes = (
        Note(0.0, 60, 0.5, 0.8, "piano"),
        Note(0.0, 67, 0.25, 0.8, "piano"),
        Note(0.0, 99, 2.0, 0.8, "drums"),
        Note(0.75, 62, 0.25, 0.8, "piano"),
    )
    # Frames are 128 ms apart.
    assert pitches(notes, 1.0) == [7, 7, 0, 0, 0, 0, 2, 2]


def test_before_the_first_note_is_its_pitch() -> None:
    assert set(pitches((Note(0.9, 69, 0.1, 0.8, "flute"),), 1.0)) == {9}


def test_no_more_is_read_than_is_needed() -> None:
    note = Note(0.0, 60, 100.0, 0.8, "piano")
    assert len(pitches((note,), 100.0, 30.0)) == 235
    noise = np.random.default_rng(0).standard_normal((2, 24_000 * 4)).astype(np.float32)
    assert len(followed(Audio(noise, 24_000), 3.0)) == 1 + 96_000 // 4096


def test_channels_and_rates_change_little() -> None:
    seconds = np.arange(96_000) / 48_000
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    frames = followed(Audio(np.stack([tone, tone]), 48_000), 30.0)
    assert frames.argmax(1).unique().tolist() == [9]


def test_nothing_to_follow_is_refused() -> None:
    for empty in (Score((), 1.0, TAGS), Audio(np.zeros((1, 0), np.float32), 32_000)):
        with pytest.raises(InputError):
            followed(empty, 30.0)
