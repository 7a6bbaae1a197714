"""alm-music: the composer that ships in the package, on the first codebooks of alm-codec-music.

A score is the plan (`alm_cli.music.compose`); this is what plays it. Every note has a vector, of
its instrument and pitch, and what sounds, begins and fades in each hundredth of a second is laid
out in time: the condition under which a causal transformer predicts the codes of each frame, all
codebooks a step with the delay pattern of MusicGen (arXiv:2306.05284).

It looks back a few seconds and no more: how the piece goes on is the score's affair, so pieces may
be of any length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, rename
from alm_cli.errors import ModelError
from alm_cli.music.score import DRUMS, INSTRUMENTS, Note
from alm_cli.nn.renderer import Frames, Renderer

# Pitches that each instrument has a vector for, and keys of the percussion.
LOWEST, PITCHES, FIRST_KEY, KEYS_OF_DRUMS = 24, 84, 35, 47
ROOMS = ("dry", "room", "hall")
# Times in units after which a note that goes on, or one that has ended, has faded by a factor e.
_FADES = (10.0, 50.0)
_RELEASE, _RELEASED = 20.0, 80.0
_CHANNELS = 5
# Frames on each side of one that its condition depends on, with those whose beginning is cut off.
_NEAR = 4


@dataclass(frozen=True, kw_only=True)
class AlmMusicConfig:
    """Times are counted in units of `unit` samples, `group` of them to a frame of the codec.

    Frame f holds the units that end `lead` units before the end of the f-th group: the codec looks
    so far ahead. `window` is how many steps one step sees.
    """

    rate: int = 24_000
    unit: int = 240
    group: int = 4
    lead: int = 6
    codebooks: int = 4
    vocabulary: int = 1024
    latent: int = 96
    note_width: int = 64
    width: int = 256
    depth: int = 4
    heads: int = 4
    window: int = 128

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> AlmMusicConfig:
        """Read `config.json`; ModelError for anything that this version cannot compute."""
        settings = Settings(raw)
        values = {name: settings.number(name, size) for name, size in asdict(cls()).items()}
        settings.finish()
        if values["width"] % (2 * values["heads"]):
            raise ModelError("config.json: width is not an even number for each of heads")
        return cls(**values)


@dataclass(frozen=True)
class Events:
    """The notes of a score as numbers [N]: begin and end in units, which vector, how loud."""

    begins: Tensor
    ends: Tensor
    which: Tensor
    loud: Tensor

    def between(self, first: int, last: int) -> Events:
        """Those that can be heard in units first to last, with times from the first."""
        kept = (self.begins < last) & (self.ends + _RELEASED > first)
        return Events(
            self.begins[kept] - first, self.ends[kept] - first, self.which[kept], self.loud[kept]
        )


class AlmMusic(Renderer):
    """Notes -> codes of alm-codec-music."""

    def __init__(self, config: AlmMusicConfig) -> None:
        super().__init__(
            books=config.codebooks,
            vocabulary=config.vocabulary,
            latent=config.latent,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            window=config.window,
            keeps_vectors=False,
        )
        self.config, self.rate = config, config.rate
        self.frames = Frames(config.group, config.lead)
        sounds = len(INSTRUMENTS) * PITCHES + KEYS_OF_DRUMS
        self.notes = nn.Embedding(sounds, config.note_width)
        self.gather = nn.Linear(config.group * _CHANNELS * config.note_width, config.width)
        self.spread = nn.Conv1d(config.width, config.width, 5, padding=2)
        self.rooms = nn.Embedding(len(ROOMS), config.width)
        # It has learnt what frames are like whose notes are not told.
        self.untold = nn.Parameter(torch.zeros(config.width))

    def events(self, notes: Sequence[Note]) -> Events:
        """Notes in seconds -> what `condition` needs; pitches out of range by octaves into it."""
        second = self.rate / self.config.unit
        begins = torch.tensor([round(note.start * second) for note in notes])
        ends = torch.tensor([round((note.start + note.length) * second) for note in notes])
        return Events(
            begins.long(),
            torch.maximum(ends.long(), begins.long() + 1),
            torch.tensor([_vector(note) for note in notes]).long(),
            torch.tensor([note.velocity for note in notes], dtype=torch.float32),
        )

    def condition(self, events: Events, first: int, last: int) -> Tensor:
        """What is to be heard in frames first to last -> [last - first, width]."""
        config = self.config
        begin = max(0, first - _NEAR)  # each hears of those beside it
        end = last + _NEAR
        own = events.between(begin * config.group, end * config.group)
        heard = self._heard(own, (end - begin) * config.group - config.lead).flatten(1)
        found = self.frames.condition(heard, self.gather, self.spread)
        return found[first - begin : last - begin]

    def _heard(self, events: Events, units: int) -> Tensor:
        """[units, channels, note_width]: sums of the vectors of what sounds, begins and fades."""
        vectors = self.notes(events.which) * events.loud[:, None]
        time = torch.arange(units, device=vectors.device)[:, None]
        age, since = time - events.begins, time - events.ends
        sounds = (age >= 0) & (since < 0)
        released = (since >= 0) & (since < _RELEASED)
        channels = torch.stack(
            [
                (age == 0).to(vectors.dtype),
                sounds.to(vectors.dtype),
                *(torch.exp(-age.clamp(min=0) / fade) * sounds for fade in _FADES),
                torch.exp(-since.clamp(min=0) / _RELEASE) * released,
            ],
            1,
        )
        return channels @ vectors


def _vector(note: Note) -> int:
    """The number of an instrument and a pitch, as `AlmMusic.notes` counts."""
    if note.instrument == DRUMS:
        key = min(max(note.pitch - FIRST_KEY, 0), KEYS_OF_DRUMS - 1)
        return len(INSTRUMENTS) * PITCHES + key
    pitch = note.pitch - LOWEST
    if not 0 <= pitch < PITCHES:
        pitch = pitch % 12 + (0 if pitch < 0 else PITCHES - 12)
    return [*INSTRUMENTS].index(note.instrument) * PITCHES + pitch


# Our own files use our own names.
KEYS = KeyMap(rename("{name:*}", "{name}"))

FAMILY = Family(AlmMusicConfig.from_hub, AlmMusic, KEYS)
