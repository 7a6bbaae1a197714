"""Sound as it comes: known answers of a simulated player, and real waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from alm_cli.bench.playback import AUDIBLE, Arrival, Playback, arrivals, played

RATE = 1000


def came(*chunks: tuple[float, int, int | None]) -> list[Arrival]:
    return [Arrival(at_s=at, samples=samples, audible=loud) for at, samples, loud in chunks]


def of(*chunks: tuple[float, int, int | None]) -> Playback:
    found = played(came(*chunks), RATE)
    assert found is not None
    return found


def test_the_first_sound_is_the_first_audible_sample_not_the_first_chunk() -> None:
    """100 ms of silence come after 0.2 s, then sound after 30 ms of the next chunk."""
    found = of((0.2, 100, None), (0.25, 100, 30))
    assert found.first_chunk_s == 0.2
    assert found.first_sound_s == pytest.approx(0.2 + 0.1 + 0.03)
    assert of((0.2, 100, None)).first_sound_s is None


def test_a_player_runs_dry_where_a_chunk_is_late_and_only_there() -> None:
    found = of((0.1, 100, 0), (0.15, 100, 0), (0.5, 100, 0), (0.55, 100, 0))
    assert found.underruns == 1
    assert found.starved_s == pytest.approx(0.5 - 0.3)
    assert found.gaps_s == pytest.approx((0.05, 0.35, 0.05))
    assert (found.audio_s, found.wall_s) == (pytest.approx(0.4), 0.55)


def test_what_comes_just_in_time_is_in_time() -> None:
    assert of((0.0, 100, 0), (0.1, 100, 0), (0.2, 100, 0)).underruns == 0


def test_slower_than_real_time_starves_again_and_again() -> None:
    found = of(*((0.2 * n, 100, 0) for n in range(1, 6)))
    assert found.underruns == 4
    assert found.starved_s == pytest.approx(4 * 0.1)


def test_nothing_is_nothing() -> None:
    assert played([], RATE) is None
    assert arrivals([np.zeros(0, np.float32)]) == []


def test_chunks_are_timed_as_they_are_made() -> None:
    def made() -> Iterator[NDArray[np.float32]]:
        time.sleep(0.03)
        yield np.full(10, AUDIBLE / 2, np.float32)
        time.sleep(0.05)
        yield np.r_[np.zeros(4, np.float32), np.ones(6, np.float32)]

    silence, sound = arrivals(made())
    assert (silence.audible, sound.audible) == (None, 4)
    assert silence.at_s >= 0.03
    assert sound.at_s - silence.at_s >= 0.05
