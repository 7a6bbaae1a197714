"""Words -> music, whatever kind of model makes it.

This file is light: it tells what can be asked for, and loads torch only to load a model.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import UsageError
from alm_cli.systems.drawn import Drawn
from alm_cli.systems.loading import load_maker
from alm_cli.values import Audio, Tokens

if TYPE_CHECKING:
    from alm_cli.music.score import Score

Samples = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Piece(Drawn):
    """What is to be made: so many seconds of music that follow the words of a prompt.

    None leaves guidance to the model. `melody` is followed, a recording or the notes of a MIDI
    file; `past` is gone on from, and is no part of the result. A `loop` has its end go on with its
    beginning; its length is the nearest whole number of bars. UsageError: a number out of range.
    """

    prompt: str
    seconds: float = 10.0
    guidance: float | None = None
    melody: Audio | Score | None = None
    past: Audio | Tokens | None = None
    loop: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.seconds < inf:
            raise UsageError(f"duration is {self.seconds} s, not above 0")
        if self.guidance is not None and not 0 <= self.guidance < inf:
            raise UsageError(f"guidance is {self.guidance}, not 0 or above")


@dataclass(frozen=True, kw_only=True)
class Music:
    """What a piece sounds like: samples [channels, n] float32 at the composer's rate.

    `tokens` are what they were made from, `score` the notes, where the model knows them; `facts`
    tell what it took from the prompt, by name.
    """

    samples: Samples
    tokens: Tokens | None = None
    score: Score | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class Composer(Protocol):
    """A loaded model that makes music; nothing about it changes after loading.

    `codec` is the name of the codec whose tokens, in `Piece.past`, it can go on from.

    Optional: `scores`, False where `Music.score` is never told.
    """

    name: str
    weights_sha256: str
    rate: int
    channels: int
    codec: str

    def check(self, piece: Piece) -> tuple[str, ...]:
        """What of the prompt will have no effect, a sentence for each.

        InputError, with what can be asked for: the model cannot do this (an empty prompt, a melody,
        a loop): it is never left out in silence.
        """

    def compose(self, pieces: Sequence[Piece]) -> list[Music]:
        """Pieces together, as a batch; each sounds as it does alone. InputError: see `check`."""

    def stream(self, piece: Piece) -> Generator[Samples, None, Music]:
        """The samples of a piece as soon as they are known; together, those of `compose`."""


def load_composer(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
) -> Composer:
    """Load a model that makes music, by catalogue name or from a local folder or file.

    ModelError: the model is unknown, damaged, not to be had without a network, or makes no music.
    """
    composer: Composer = load_maker(
        source,
        _MODULES,
        "composer",
        "make music",
        device=device,
        dtype=dtype,
        threads=threads,
        # Weights that are rounded one by one need not be in memory as they were.
        mapped=dtype == "int8",
    )
    return composer


# Class of the model -> the module whose `composer(loaded, source, *, device, dtype)` makes it one.
_MODULES = {
    "AlmMusic": "alm_cli.systems.alm_composer",
    "Magnet": "alm_cli.systems.magnet_composer",
    "MusicGen": "alm_cli.systems.musicgen_composer",
}
