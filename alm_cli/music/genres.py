"""What is usual in a genre and in a mood: what a prompt leaves open is chosen from this."""

from __future__ import annotations

from dataclasses import dataclass

SLOWEST_BPM, FASTEST_BPM = 60, 180


@dataclass(frozen=True)
class Genre:
    """Ranges that a piece of a genre stays in; a choice named twice is twice as likely.

    Each of `ensembles` begins with the instrument of the melody; `bpm` and `density` are the least
    and the most. `moods` are those that suggest the genre where a prompt names none.
    """

    ensembles: tuple[tuple[str, ...], ...]
    bpm: tuple[int, int]
    modes: tuple[str, ...]
    meters: tuple[str, ...]
    density: tuple[float, float]
    moods: tuple[str, ...]

    @property
    def palette(self) -> frozenset[str]:
        """Every instrument of the ensembles."""
        return frozenset(name for ensemble in self.ensembles for name in ensemble)


GENRES = {
    "classical": Genre(
        ensembles=(
            ("piano",),
            ("piano", "strings"),
            ("strings", "flute"),
            ("flute", "piano", "strings"),
            ("strings", "flute", "trumpet"),
        ),
        bpm=(66, 140),
        modes=("major", "major", "minor"),
        meters=("4/4", "4/4", "3/4", "6/8"),
        density=(0.35, 0.75),
        moods=("calm", "sad", "romantic", "playful"),
    ),
    "pop": Genre(
        ensembles=(
            ("piano", "bass", "drums"),
            ("guitar", "piano", "bass", "drums"),
            ("lead", "piano", "pad", "bass", "drums"),
            ("electric piano", "guitar", "strings", "bass", "drums"),
        ),
        bpm=(90, 130),
        modes=("major", "major", "major", "minor"),
        meters=("4/4",),
        density=(0.4, 0.7),
        moods=("happy", "hopeful", "energetic", "romantic"),
    ),
    "rock": Genre(
        ensembles=(
            ("guitar", "bass", "drums"),
            ("guitar", "organ", "bass", "drums"),
            ("guitar", "piano", "bass", "drums"),
        ),
        bpm=(100, 165),
        modes=("major", "minor", "mixolydian"),
        meters=("4/4",),
        density=(0.5, 0.85),
        moods=("energetic", "tense"),
    ),
    "jazz": Genre(
        ensembles=(
            ("piano", "bass", "drums"),
            ("saxophone", "piano", "bass", "drums"),
            ("trumpet", "piano", "bass", "drums"),
            ("vibraphone", "guitar", "bass", "drums"),
            ("trumpet", "saxophone", "piano", "bass", "drums"),
        ),
        bpm=(80, 176),
        modes=("major", "major", "minor", "dorian"),
        meters=("4/4", "4/4", "4/4", "3/4"),
        density=(0.45, 0.8),
        moods=("playful", "romantic"),
    ),
    "blues": Genre(
        ensembles=(
            ("guitar", "bass", "drums"),
            ("guitar", "organ", "bass", "drums"),
            ("saxophone", "piano", "bass", "drums"),
        ),
        bpm=(66, 126),
        modes=("mixolydian", "mixolydian", "major", "minor"),
        meters=("4/4", "4/4", "6/8"),
        density=(0.35, 0.7),
        moods=("sad",),
    ),
    "folk": Genre(
        ensembles=(
            ("guitar",),
            ("flute", "guitar"),
            ("guitar", "bass"),
            ("flute", "guitar", "bass"),
            ("strings", "guitar", "bass"),
        ),
        bpm=(76, 140),
        modes=("major", "major", "dorian", "mixolydian", "minor"),
        meters=("4/4", "3/4", "6/8"),
        density=(0.35, 0.7),
        moods=("happy", "nostalgic", "hopeful"),
    ),
    "ambient": Genre(
        ensembles=(
            ("pad",),
            ("piano", "pad"),
            ("electric piano", "pad"),
            ("vibraphone", "pad", "strings"),
        ),
        bpm=(60, 90),
        modes=("major", "minor", "dorian"),
        meters=("4/4", "4/4", "3/4"),
        density=(0.1, 0.35),
        moods=("calm", "dreamy", "mysterious"),
    ),
    "electronic": Genre(
        ensembles=(
            ("lead", "bass", "drums"),
            ("lead", "pad", "bass", "drums"),
            ("lead", "electric piano", "pad", "bass", "drums"),
        ),
        bpm=(110, 145),
        modes=("minor", "minor", "major", "dorian"),
        meters=("4/4",),
        density=(0.5, 0.9),
        moods=("energetic", "dark", "tense"),
    ),
    "lofi": Genre(
        ensembles=(
            ("electric piano", "bass", "drums"),
            ("piano", "bass", "drums"),
            ("guitar", "electric piano", "bass", "drums"),
            ("vibraphone", "electric piano", "bass", "drums"),
        ),
        bpm=(68, 92),
        modes=("minor", "dorian", "major"),
        meters=("4/4",),
        density=(0.25, 0.5),
        moods=("calm", "nostalgic", "dreamy"),
    ),
    "cinematic": Genre(
        ensembles=(
            ("strings", "trumpet", "drums"),
            ("strings", "piano"),
            ("strings", "flute", "pad"),
            ("trumpet", "strings", "pad", "drums"),
        ),
        bpm=(66, 140),
        modes=("minor", "minor", "major"),
        meters=("4/4", "4/4", "3/4", "6/8"),
        density=(0.35, 0.8),
        moods=("epic", "dark", "tense", "mysterious", "hopeful"),
    ),
    "funk": Genre(
        ensembles=(
            ("guitar", "bass", "drums"),
            ("electric piano", "guitar", "bass", "drums"),
            ("saxophone", "trumpet", "guitar", "bass", "drums"),
            ("organ", "guitar", "bass", "drums"),
        ),
        bpm=(92, 124),
        modes=("dorian", "dorian", "mixolydian", "minor"),
        meters=("4/4",),
        density=(0.6, 0.9),
        moods=("energetic", "playful"),
    ),
    "latin": Genre(
        ensembles=(
            ("guitar", "bass", "drums"),
            ("flute", "guitar", "bass", "drums"),
            ("trumpet", "piano", "bass", "drums"),
            ("saxophone", "guitar", "bass", "drums"),
        ),
        bpm=(96, 150),
        modes=("minor", "major", "dorian"),
        meters=("4/4",),
        density=(0.45, 0.8),
        moods=("romantic", "happy", "playful"),
    ),
}


@dataclass(frozen=True)
class Mood:
    """What a mood asks for: its modes, all equal (none: any), and how fast and how many notes.

    `pace` and `density` lie between -1, the least that is usual in the genre, and 1, the most.
    """

    modes: tuple[str, ...]
    pace: float
    density: float


MOODS = {
    "neutral": Mood((), 0, 0),
    "calm": Mood((), -0.8, -0.7),
    "happy": Mood(("major",), 0.5, 0.2),
    "sad": Mood(("minor",), -0.8, -0.4),
    "dark": Mood(("minor",), -0.3, 0),
    "epic": Mood(("minor",), 0.2, 0.7),
    "tense": Mood(("minor",), 0.6, 0.5),
    "dreamy": Mood((), -0.6, -0.4),
    "energetic": Mood((), 0.9, 0.8),
    "romantic": Mood(("major",), -0.5, -0.1),
    "mysterious": Mood(("minor", "dorian"), -0.4, -0.4),
    "playful": Mood(("major",), 0.5, 0.3),
    "nostalgic": Mood((), -0.4, -0.2),
    "hopeful": Mood(("major",), 0.1, 0),
}
