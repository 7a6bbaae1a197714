"""A melody as notes: sung or played alone in a recording, or the leading line of a score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.music.hearing import Numbers, resampled
from alm_cli.music.score import DRUMS, Note, Score
from alm_cli.values import Audio

# What a heard melody is played by, until somebody else takes it.
PLAYER = "lead"
LONGEST_S = 600.0
_RATE, _HOP, _WINDOW = 16_000, 160, 1024
_LOWEST_HZ, _HIGHEST_HZ = 65.0, 1800.0
# Of YIN: below the first a period counts at once, above the second nothing is periodic.
_SURE, _UNSURE = 0.12, 0.35
_SILENT_DB = -45.0
_SHORTEST_S = 0.06
# Frames of a melody cost their distance to a semitone, silence and every change of note this much.
_CHANGE, _REST = 9.0, 1.5
_AGAIN_DB = 6.0
_BRIEF = np.hanning(402)[1:-1] / np.hanning(402).sum()


def heard_melody(audio: Audio) -> tuple[Note, ...]:
    """The notes of one voice or one instrument; times in seconds of the recording.

    Pitches by YIN (de Cheveigne & Kawahara 2002), notes by the cheapest path through semitones.
    InputError: it is too long, or no melody can be heard in it.
    """
    if audio.seconds > LONGEST_S:
        raise InputError(f"a melody of {audio.seconds:.0f} s; it may last {LONGEST_S:.0f} s")
    wave = resampled(audio.samples.mean(0, dtype=np.float64), audio.rate, _RATE)
    pitches, loud_db = track(wave)
    notes = _notes(_path(pitches), pitches, loud_db)
    if not notes:
        raise InputError(
            "no melody can be heard in the recording",
            hint="one voice or instrument alone is heard best; a MIDI file is exact",
        )
    return notes


def track(wave: Numbers) -> tuple[Numbers, Numbers]:
    """A wave [n] at 16 kHz -> pitch as in MIDI, NaN where there is none, and loudness in dB.

    A hundred frames a second, the first at 0 s. The tuning of the whole is taken to be that of
    A = 440 Hz where it is less than half a semitone off.
    """
    if len(wave) < _HOP:
        return np.zeros(0), np.zeros(0)
    half = _WINDOW + int(_RATE / _LOWEST_HZ) + 2
    padded = np.pad(wave, (_WINDOW // 2, half))
    frames = np.lib.stride_tricks.sliding_window_view(padded, half)[::_HOP][: len(wave) // _HOP]
    parts = [_yin(frames[at : at + 1024]) for at in range(0, len(frames), 1024)]
    periods = np.concatenate(parts)
    # Of 25 ms, so that a tone that is struck again is seen.
    power = np.convolve(wave**2, _BRIEF, "same")[::_HOP][: len(periods)]
    loud_db = 10 * np.log10(power + 1e-12)
    with np.errstate(invalid="ignore", divide="ignore"):
        pitches = 69 + 12 * np.log2(_RATE / periods / 440)
    pitches[loud_db < max(loud_db.max(initial=-120.0) + _SILENT_DB, -75.0)] = np.nan
    return _tuned(pitches), loud_db


def _yin(frames: Numbers) -> Numbers:
    """Frames [n, window + lags] -> period in samples [n], NaN where there is none."""
    lags = frames.shape[1] - _WINDOW
    size = 1 << (frames.shape[1] - 1).bit_length()
    head = np.fft.rfft(frames[:, :_WINDOW], size)
    products = np.fft.irfft(np.conj(head) * np.fft.rfft(frames, size), size)[:, : lags + 1]
    energy = np.pad(np.cumsum(frames**2, 1), ((0, 0), (1, 0)))
    moved = energy[:, _WINDOW : _WINDOW + lags + 1] - energy[:, : lags + 1]
    apart = np.maximum(0, moved[:, :1] + moved - 2 * products)
    # Of equations 6 and 8: the difference over its own mean so far.
    mean = np.cumsum(apart[:, 1:], 1) / np.arange(1, lags + 1)
    ratio = np.ones_like(apart)
    ratio[:, 1:] = apart[:, 1:] / np.maximum(mean, 1e-12)
    first = int(_RATE / _HIGHEST_HZ)
    dips = np.zeros(ratio.shape, bool)
    middle = ratio[:, 1:-1]
    dips[:, 1:-1] = (middle <= ratio[:, :-2]) & (middle < ratio[:, 2:])
    dips[:, :first] = False
    sure = dips & (ratio < _SURE)
    lowest = np.where(dips, ratio, np.inf)
    lag = np.where(sure.any(1), sure.argmax(1), lowest.argmin(1))
    rows = np.arange(len(frames))
    found = np.isfinite(lowest[rows, lag]) & (ratio[rows, lag] < _UNSURE) & (moved[:, 0] > 1e-7)
    lag = np.clip(lag, 1, lags - 1)
    left, here, right = (ratio[rows, lag + step] for step in (-1, 0, 1))
    bend = left - 2 * here + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1), 0.0)
    return np.where(found, lag + shift, np.nan)


def _tuned(pitches: Numbers) -> Numbers:
    """Pitches moved so that most are whole: no instrument is exactly at 440 Hz."""
    voiced = pitches[np.isfinite(pitches)]
    if not len(voiced):
        return pitches
    off = np.angle(np.exp(2j * np.pi * voiced).mean()) / (2 * np.pi)
    return pitches - off


def _path(pitches: Numbers) -> NDArray[np.intp]:
    """The note of each frame, -1 for none: few changes, near to what was tracked (Viterbi)."""
    voiced = np.isfinite(pitches)
    if not voiced.any():
        return np.full(len(pitches), -1)
    low, high = int(np.floor(np.nanmin(pitches))), int(np.ceil(np.nanmax(pitches)))
    states = np.arange(low, high + 1)
    costs = np.full((len(pitches), len(states) + 1), 3.0)  # the last one is silence
    costs[voiced, :-1] = np.minimum((pitches[voiced, None] - states) ** 2 / 0.2, 4.0)
    costs[:, -1] = np.where(voiced, _REST, 0.0)
    total, came = costs[0].copy(), np.zeros(costs.shape, np.intp)
    stays = np.arange(costs.shape[1])
    for frame in range(1, len(costs)):
        best = int(total.argmin())
        change = total[best] + _CHANGE < total
        came[frame] = np.where(change, best, stays)
        total = np.minimum(total, total[best] + _CHANGE) + costs[frame]
    path = np.empty(len(costs), np.intp)
    state = int(total.argmin())
    for frame in range(len(costs) - 1, -1, -1):
        path[frame] = state
        state = int(came[frame, state])
    return np.where(path == len(states), -1, path + low)


def _notes(path: NDArray[np.intp], pitches: Numbers, loud_db: Numbers) -> tuple[Note, ...]:
    """Runs of a pitch, parted where the tone is struck again."""
    found: list[Note] = []
    second, frame = _HOP / _RATE, 0
    peak = float(loud_db.max(initial=-120.0))
    for pitch, group in groupby(path.tolist()):
        count = len(list(group))
        if pitch >= 0:
            for start, end in _strokes(loud_db, frame, frame + count):
                voiced = np.isfinite(pitches[start:end]).mean()
                if (end - start) * second >= _SHORTEST_S and voiced > 0.5:
                    strength = 10 ** ((float(loud_db[start:end].max()) - peak) / 40)
                    length = round((end - start) * second, 4)
                    velocity = round(max(0.1, min(1.0, strength)), 3)
                    found.append(Note(round(start * second, 4), pitch, length, velocity, PLAYER))
        frame += count
    return tuple(found)


def _strokes(loud_db: Numbers, start: int, end: int) -> list[tuple[int, int]]:
    """Where a held pitch is struck: the loudness rises within 50 ms, by as much as it fell."""
    places = [start]
    for frame in range(start + 8, end - 4):
        rise = loud_db[frame + 2] - loud_db[frame - 3 : frame].min()
        steepest = loud_db[frame + 1] - loud_db[frame - 1]
        if rise > _AGAIN_DB and frame - places[-1] >= 8 and steepest > 1.0:
            places.append(frame)
    return list(zip(places, [*places[1:], end], strict=True))


def leading_line(score: Score) -> tuple[Note, ...]:
    """The highest line of the instrument whose line is most like a melody, one note at a time.

    InputError: nothing but drums is in the score.
    """
    lines = {}
    for name in sorted({note.instrument for note in score.notes} - {DRUMS}):
        lines[name] = highest([note for note in score.notes if note.instrument == name])
    if not lines:
        raise InputError("no melody is in the score: only drums", hint="give one with pitches")
    return max(lines.values(), key=_melodic)


def highest(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Of notes that sound together the highest ones, each until the next begins."""
    line: list[Note] = []
    for note in sorted(notes, key=lambda n: (n.start, -n.pitch)):
        if line and note.start < line[-1].start + line[-1].length - 0.02:
            last = line[-1]
            if note.pitch < last.pitch or note.start - last.start < 0.02:
                continue
            line[-1] = Note(
                last.start, last.pitch, note.start - last.start, last.velocity, last.instrument
            )
        line.append(note)
    return tuple(line)


def _melodic(line: Sequence[Note]) -> float:
    """How much a line is like a melody: high, moving, by steps, most of the time."""
    pitches = np.array([note.pitch for note in line])
    steps = np.abs(np.diff(pitches))
    lasting = sum(note.length for note in line)
    span = max(note.start + note.length for note in line) - min(note.start for note in line)
    moves = float(np.mean(steps > 0)) if len(steps) else 0.0
    small = float(np.mean(steps <= 4)) if len(steps) else 0.0
    return (
        min(1.0, len(line) / 8)
        + min(1.0, lasting / max(span, 1e-9))
        + moves
        + small
        + 0.05 * (float(pitches.mean()) - 60)
    )
