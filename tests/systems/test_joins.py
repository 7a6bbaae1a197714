"""Joins: exact pauses, no clicks, the same from any chunks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from alm_cli.systems.joins import Joiner

RATE = 16_000
Samples = NDArray[np.float32]


def tone(seconds: float, lead: float = 0.1, tail: float = 0.2, level: float = 0.3) -> Samples:
    """A tone between quiet noise."""
    generator = np.random.default_rng(0)
    when = np.arange(round(seconds * RATE)) / RATE
    parts = [
        np.zeros(round(lead * RATE)),
        np.sin(2 * np.pi * 220 * when),
        np.zeros(round(tail * RATE)),
    ]
    wave = level * np.concatenate(parts)
    return (wave + 1e-5 * generator.standard_normal(len(wave))).astype(np.float32)


def joined(pieces: list[Samples], pause_s: float, size: int = 10**9) -> tuple[Samples, list[int]]:
    """The pieces with pauses between, pushed in chunks, and where each began."""
    joiner, parts, offsets = Joiner(RATE), [], []
    for place, piece in enumerate(pieces):
        if place:
            joiner.pause(round(pause_s * RATE))
        joiner.begin()
        parts += [joiner.push(piece[i : i + size]) for i in range(0, len(piece), size)]
        parts.append(joiner.end(last=place == len(pieces) - 1))
        offsets.append(joiner.offset)
    parts.append(joiner.finish())
    return np.concatenate(parts), offsets


def gaps(samples: Samples) -> list[float]:
    """The seconds of each quiet stretch between loud ones."""
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    steps = np.diff(loud)
    return [step / RATE for step in steps if step > 0.01 * RATE]


@pytest.mark.parametrize("pause_s", [0.02, 0.1, 0.4, 2.0])
def test_pauses_are_exact(pause_s: float) -> None:
    samples, _ = joined([tone(0.3), tone(0.2, lead=0.3), tone(0.1, tail=0.0)], pause_s)
    assert gaps(samples) == pytest.approx([max(pause_s, 0.03)] * 2, abs=0.011)


@pytest.mark.parametrize("size", [1, 37, 80, 1000])
def test_any_chunks_give_the_same(size: int) -> None:
    pieces = [tone(0.05, lead=0.02), tone(0.06, tail=0.0), tone(0.04)]
    whole, offsets = joined(pieces, 0.1)
    chunked, others = joined(pieces, 0.1, size)
    assert (chunked == whole).all() and others == offsets


def test_one_piece_is_not_changed() -> None:
    piece = tone(0.2)
    samples, offsets = joined([piece], 0.4)
    assert (samples == piece).all() and offsets == [0]
    quiet = np.zeros(1000, np.float32)
    assert (joined([quiet], 0.4)[0] == quiet).all()


def test_the_beginning_and_the_end_of_the_whole_are_not_changed() -> None:
    first, last = tone(0.2, lead=0.25), tone(0.2, tail=0.5)
    samples, offsets = joined([first, last], 0.4)
    assert (samples[: round(0.4 * RATE)] == first[: round(0.4 * RATE)]).all()
    assert (samples[-round(0.6 * RATE) :] == last[-round(0.6 * RATE) :]).all()
    assert (samples[offsets[1] + 2000 :][:500] == last[2000:2500]).all()


def test_there_are_no_clicks_where_speech_is_cut_off() -> None:
    pieces = [tone(0.2, lead=0.0, tail=0.0), tone(0.213, lead=0.0, tail=0.0)]
    samples, _ = joined(pieces, 0.3)
    inside = max(float(np.abs(np.diff(piece)).max()) for piece in pieces)
    assert np.abs(np.diff(samples)).max() <= 1.2 * inside


def test_pauses_add_up_and_frame_the_whole() -> None:
    joiner = Joiner(RATE)
    joiner.pause(1600)
    joiner.pause(1600)
    joiner.begin()
    start = joiner.push(tone(0.2))
    end = joiner.end(last=False)
    joiner.pause(4800)
    rest = joiner.finish()
    loud = np.flatnonzero(np.abs(np.concatenate([start, end, rest])) > 0.01)
    assert loud[0] == pytest.approx(3200, abs=100)
    assert joiner.length - loud[-1] == pytest.approx(4800, abs=100)


def test_a_silent_piece_leaves_its_pauses() -> None:
    samples, _ = joined([tone(0.2), np.zeros(8000, np.float32), tone(0.2)], 0.2)
    assert gaps(samples) == pytest.approx([0.4], abs=0.011)
