"""Sound as it comes: when the first of it can be heard, gaps, and whether a player runs dry."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AUDIBLE = 10 ** (-50 / 20)  # of full scale: quieter samples are silence to a listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A chunk of `samples` that came `at_s` seconds after the request; its first audible one."""

    at_s: float
    samples: int
    audible: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Playback:
    """What a listener has of chunks that are played as they come, in seconds.

    `first_chunk_s` until anything comes, `first_sound_s` until the first audible sample is played;
    `gaps_s` between chunks; `underruns` times the player had nothing, for `starved_s` in all.
    """

    first_chunk_s: float
    first_sound_s: float | None
    gaps_s: tuple[float, ...]
    underruns: int
    starved_s: float
    audio_s: float
    wall_s: float


def arrivals(chunks: Iterable[NDArray[np.float32]]) -> list[Arrival]:
    """Mono chunks [n] taken as fast as they come; empty ones do not count."""
    found: list[Arrival] = []
    began = time.perf_counter()
    for chunk in chunks:
        at = time.perf_counter() - began
        loud = np.flatnonzero(np.abs(chunk) > AUDIBLE)
        if chunk.size:
            first = int(loud[0]) if loud.size else None
            found.append(Arrival(at_s=at, samples=chunk.size, audible=first))
    return found


def played(chunks: Sequence[Arrival], rate: int) -> Playback | None:
    """A player that begins with the first chunk and never waits on purpose; None: nothing came."""
    if not chunks:
        return None
    clock = chunks[0].at_s  # when the player has played all that came
    underruns, starved = 0, 0.0
    first_sound: float | None = None
    for chunk in chunks:
        if chunk.at_s > clock + 1e-9:
            underruns, starved = underruns + 1, starved + chunk.at_s - clock
            clock = chunk.at_s
        if first_sound is None and chunk.audible is not None:
            first_sound = clock + chunk.audible / rate
        clock += chunk.samples / rate
    times = [chunk.at_s for chunk in chunks]
    return Playback(
        first_chunk_s=times[0],
        first_sound_s=first_sound,
        gaps_s=tuple(later - earlier for earlier, later in zip(times, times[1:], strict=False)),
        underruns=underruns,
        starved_s=starved,
        audio_s=sum(chunk.samples for chunk in chunks) / rate,
        wall_s=times[-1],
    )
