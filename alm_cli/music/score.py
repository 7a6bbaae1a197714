"""A score: notes in seconds, and what is known of all of them."""

from __future__ import annotations

from dataclasses import dataclass

# Our instruments -> their programs in General MIDI (0 to 127); drums are its percussion channel.
INSTRUMENTS = {
    "piano": 0,
    "electric piano": 4,
    "vibraphone": 11,
    "organ": 16,
    "guitar": 24,
    "bass": 33,
    "strings": 48,
    "trumpet": 56,
    "saxophone": 65,
    "flute": 73,
    "lead": 80,
    "pad": 89,
}
DRUMS = "drums"
NAMES = (*INSTRUMENTS, DRUMS)
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MODES = ("major", "minor", "dorian", "mixolydian")


@dataclass(frozen=True, order=True)
class Note:
    """One tone: `start` and `length` in seconds, `pitch` as in MIDI, `velocity` up to 1.

    `instrument` is one of `NAMES`; the pitch of drums is a key of General MIDI's percussion.
    """

    start: float
    pitch: int
    length: float
    velocity: float
    instrument: str


@dataclass(frozen=True)
class Tags:
    """What a piece is to be: see `alm_cli.music.words` for how a prompt says it.

    `tonic` is 0 for C to 11 for B, `beats` those of a bar, each a quarter (of 6/8: two groups of
    three eighths, and `bpm` counts the groups, dotted quarters). `density` is 0 for few notes to 1
    for many. `section` is one of "whole", "intro", "verse", "chorus", "bridge", "outro".
    """

    genre: str
    instruments: tuple[str, ...]
    bpm: float
    tonic: int
    mode: str
    meter: str = "4/4"
    mood: str = "neutral"
    density: float = 0.5
    section: str = "whole"

    @property
    def key(self) -> str:
        """As musicians say it: C minor."""
        return f"{TONICS[self.tonic]} {self.mode}"

    @property
    def beats(self) -> int:
        """Those of a bar."""
        return {"4/4": 4, "3/4": 3, "6/8": 2}[self.meter]

    @property
    def bar_s(self) -> float:
        """How long a bar lasts."""
        return self.beats * 60 / self.bpm


@dataclass(frozen=True)
class Score:
    """Notes in order of their starts, all that sounds in `seconds` of music."""

    notes: tuple[Note, ...]
    seconds: float
    tags: Tags
