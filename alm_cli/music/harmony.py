"""Scales, and chords that follow one another: tonic, away from it, dominant, home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alm_cli.music.dice import Dice

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Degree (0 is the tonic) -> what follows it, and how often.
_NEXT: Mapping[str, Mapping[int, Mapping[int, float]]] = {
    "major": {
        0: {3: 3, 4: 3, 5: 3, 1: 2, 2: 1},
        1: {4: 5, 3: 1},
        2: {5: 3, 3: 3},
        3: {4: 4, 0: 4, 1: 1, 5: 1},
        4: {0: 5, 5: 3, 3: 1},
        5: {3: 4, 1: 3, 4: 2, 2: 1},
    },
    "minor": {
        0: {5: 3, 3: 3, 6: 3, 2: 2, 4: 2},
        2: {5: 3, 6: 2, 3: 2},
        3: {4: 3, 0: 3, 6: 2},
        4: {0: 5, 5: 2},
        5: {6: 3, 3: 2, 4: 2, 2: 1, 0: 1},
        6: {0: 4, 2: 2, 5: 2},
    },
    "dorian": {
        0: {3: 5, 6: 3, 1: 1, 2: 1},
        1: {0: 3, 3: 1},
        2: {3: 2, 6: 2},
        3: {0: 5, 6: 2},
        6: {0: 4, 3: 2},
    },
    "mixolydian": {
        0: {6: 4, 3: 4, 4: 1},
        3: {0: 5, 6: 2, 4: 1},
        4: {3: 2, 0: 3},
        6: {3: 4, 0: 4},
    },
}
_BLUES = (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4)


@dataclass(frozen=True)
class Chord:
    """`classes` are its pitch classes (0 for C), the root first."""

    classes: tuple[int, ...]

    @property
    def root(self) -> int:
        """The pitch class that the bass has."""
        return self.classes[0]


class Key:
    """A tonic and a mode: its scale and the chords on its degrees."""

    def __init__(self, tonic: int, mode: str) -> None:
        self.tonic, self.mode = tonic, mode
        self.scale = tuple((tonic + step) % 12 for step in SCALES[mode])

    def chord(self, degree: int, *, sevenths: bool = False, leading: bool = False) -> Chord:
        """The chord on a degree; `leading` gives a minor key the dominant of its major."""
        steps = (0, 2, 4, 6) if sevenths else (0, 2, 4)
        classes = [self.scale[(degree + step) % 7] for step in steps]
        if leading and degree == 4 and self.mode in ("minor", "dorian"):
            classes[1] = (self.tonic + 11) % 12
        return Chord(tuple(classes))

    def walk(self, pitch: int, steps: int) -> int:
        """The pitch so many steps of the scale away; first onto the scale, downwards."""
        while pitch % 12 not in self.scale:
            pitch -= 1
        index = self.scale.index(pitch % 12) + steps
        octaves, place = divmod(index, 7)
        offset = (self.scale[place] - self.tonic) % 12
        base = pitch - (pitch - self.tonic) % 12
        return base + 12 * octaves + offset


def progression(key: Key, bars: int, dice: Dice, *, ends: bool, blues: bool = False) -> list[int]:
    """A degree for each bar of a phrase; it `ends` at home, or half way, on the dominant."""
    if blues and bars == 12:
        return list(_BLUES[:11]) + [0 if ends else 4]
    table = _NEXT[key.mode]
    away = 4 if key.mode in ("major", "minor") else 6
    degrees = [0]
    while len(degrees) < bars:
        choices = table[degrees[-1]]
        degrees.append(dice.pick([*choices], [*choices.values()]))
    if ends and bars > 1:
        degrees[-1] = 0
        if bars > 2:
            degrees[-2] = away if dice.chance(0.75) else 3
    elif bars > 1:
        degrees[-1] = away
    return degrees


def fitting(key: Key, heard: Sequence[Mapping[int, float]]) -> list[int]:
    """The degrees that go best with pitch classes, so much of each in each bar (Viterbi)."""
    table, degrees = _NEXT[key.mode], sorted(_NEXT[key.mode])
    scores: dict[int, float] = {d: (0.5 if d == 0 else 0.0) for d in degrees}
    paths: dict[int, list[int]] = {d: [] for d in degrees}
    for bar, amounts in enumerate(heard):
        total = sum(amounts.values()) or 1.0
        found, ways = {}, {}
        for degree in degrees:
            chord = key.chord(degree).classes
            fits = sum(amounts.get(c, 0.0) * (1.2 if c == chord[0] else 1.0) for c in chord)
            best, came = max(
                (scores[d] + (0.3 if degree in table[d] else 0.15 if d == degree else 0.0), d)
                for d in degrees
            )
            found[degree] = (scores[degree] if bar == 0 else best) + 2 * fits / total
            ways[degree] = [*paths[degree if bar == 0 else came], degree]
        scores, paths = found, ways
    return paths[max(degrees, key=lambda d: scores[d])]


def voiced(chord: Chord, near: Sequence[int], center: int) -> list[int]:
    """The chord's pitches close to those before, or around a center where there are none."""
    wanted = sorted(near) or [center]
    found: list[int] = []
    for number, name in enumerate(chord.classes):
        aim = wanted[min(number, len(wanted) - 1)] if near else center + 3 * number - 3
        aim = (2 * aim + center) // 3  # so that it does not wander off
        pitch = aim + (name - aim + 6) % 12 - 6
        while pitch in found:
            pitch += 12
        found.append(pitch)
    return sorted(found)
