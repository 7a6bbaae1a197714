"""When notes fall: figures of the melody, and what drums play.

Places and lengths are in beats; a beat of 6/8 is three eighths.
"""

from __future__ import annotations

from dataclasses import dataclass

from alm_cli.music.dice import Dice

# How a beat is divided -> how much it is liked in sparse and in dense music.
_FIGURES: dict[bool, tuple[tuple[tuple[float, ...], float, float], ...]] = {
    False: (
        ((1.0,), 5, 1),
        ((0.5, 0.5), 1.5, 4),
        ((0.75, 0.25), 0.5, 1),
        ((0.25, 0.25, 0.5), 0, 1),
        ((0.5, 0.25, 0.25), 0, 1.2),
        ((0.25, 0.25, 0.25, 0.25), 0, 0.6),
    ),
    True: (
        ((1.0,), 4, 1),
        ((2 / 3, 1 / 3), 2, 2),
        ((1 / 3, 1 / 3, 1 / 3), 0.5, 4),
        ((1 / 3, 2 / 3), 0, 0.5),
    ),
}


@dataclass(frozen=True)
class Beat:
    """Where in a bar something sounds, and how long."""

    place: float
    length: float


def figure(beats: int, density: float, dice: Dice, *, triple: bool, closes: bool) -> list[Beat]:
    """The rhythm of a melody's bar; one that closes a phrase ends in a long note."""
    figures = _FIGURES[triple]
    weights = [sparse * (1 - density) + dense * density for _, sparse, dense in figures]
    found: list[Beat] = []
    last = max(1, beats - 2) if closes else beats
    for beat in range(last):
        if found and dice.chance(0.45 * (1 - density)) and found[-1].place == int(found[-1].place):
            found[-1] = Beat(found[-1].place, found[-1].length + 1)  # tied over
            continue
        if dice.chance(0.08) and beat:
            continue  # a rest
        place = float(beat)
        for length in dice.pick(figures, weights)[0]:
            found.append(Beat(place, length))
            place += length
    if closes:
        found.append(Beat(float(last), float(beats - last)))
    return found or [Beat(0.0, float(beats))]


# Sixteenths of a 4/4 bar, twelfths of the others: who plays when, loud (X) or less so (x, .).
KICK, STICK, SNARE, CLOSED, OPEN, RIDE, CRASH = 36, 37, 38, 42, 46, 51, 49
LOW, MIDDLE, HIGH = 45, 47, 50
_DRUMS: dict[str, dict[str, dict[int, str]]] = {
    "4/4": {
        "rock": {KICK: "X.....x.X.......", SNARE: "....X.......X...", CLOSED: "x.x.x.x.x.x.x.x."},
        "pop": {KICK: "X.....x...X.....", SNARE: "....X.......X...", CLOSED: "x.x.x.x.x.x.x.x."},
        "ballad": {KICK: "X.......x.......", STICK: "....x.......x...", CLOSED: "x...x...x...x..."},
        "four": {KICK: "X...X...X...X...", SNARE: "....x.......x...", OPEN: "..x...x...x...x."},
        "funk": {KICK: "X..x..x...x..x..", SNARE: "....X..x.x..X...", CLOSED: "xxxxxxxxxxxxxxxx"},
        "lofi": {KICK: "X.....x..x......", SNARE: "....x.......x...", CLOSED: "x.x.x.x.x.x.x.x."},
        "shuffle": {KICK: "X.......X.......", SNARE: "....x.......x...", RIDE: "x..xx..xx..xx..x"},
        "latin": {KICK: "X.....x.X.....x.", STICK: "X..x..x...x.x...", CLOSED: "x.x.x.x.x.x.x.x."},
        "march": {KICK: "X.......X.......", LOW: "..x.x.x...x.x.xx"},
    },
    "3/4": {
        "waltz": {KICK: "X...........", CLOSED: "....x...x...", STICK: "....x...x..."},
        "rock": {KICK: "X.....x.....", SNARE: "........X...", CLOSED: "x.x.x.x.x.x."},
    },
    "6/8": {
        "ballad": {KICK: "X...........", STICK: "......x.....", CLOSED: "x.x.x.x.x.x."},
        "rock": {KICK: "X...x.......", SNARE: "......X.....", CLOSED: "x.x.x.x.x.x."},
    },
}


@dataclass(frozen=True)
class Stroke:
    """A stroke of the drums: which, where in the bar, how loud."""

    key: int
    place: float
    velocity: float


def drummed(style: str, meter: str, beats: int, dice: Dice, *, fill: bool) -> list[Stroke]:
    """A bar of drums in a style, those of the meter where it has none of that name."""
    patterns = _DRUMS[meter]
    pattern = patterns.get(style) or patterns["waltz" if meter == "3/4" else "rock"]
    found = []
    for key, line in pattern.items():
        step = beats / len(line)
        for index, sign in enumerate(line):
            if sign == "." or (fill and index >= len(line) * 3 // 4 and key != KICK):
                continue
            loud = 0.9 if sign == "X" else 0.6 if index * step % 1 == 0 else 0.5
            found.append(Stroke(key, index * step, loud + dice.between(-0.04, 0.04)))
    if fill:
        keys = (HIGH, MIDDLE, MIDDLE, LOW) if dice.chance(0.6) else (SNARE,) * 4
        begin = beats * 0.75
        for number, key in enumerate(keys):
            found.append(Stroke(key, begin + number * beats / 16, 0.6 + 0.07 * number))
    return found
