"""Text -> speech, whatever kind of model says it.

This file is light: it tells what can be asked for, and loads torch only to load a model. A speaker
says lines, of a few sentences at most; `alm_cli.systems.speech` makes lines of long texts and joins
what is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError, UsageError
from alm_cli.systems.drawn import Drawn
from alm_cli.systems.loading import load_maker
from alm_cli.values import Audio, Latents, Tokens, Word


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What a line sounds like: mono samples [n] float32 at the speaker's rate.

    `words` say when each is spoken, in seconds of the samples; empty where the model cannot tell.
    `tokens` are what the samples were made from, None for a model without.
    """

    samples: NDArray[np.float32]
    words: tuple[Word, ...] = ()
    tokens: Tokens | Latents | None = None


@dataclass(frozen=True, kw_only=True)
class Line(Drawn):
    """What is said in one go, and how.

    `text` is plain, with its punctuation; `[[...]]` in it are phonemes of the International
    Phonetic Alphabet, for models that read these. `voice` comes from `Speaker.voice`. None leaves
    temperature, top-k and top-p to the model. `speed` 2 is twice as fast; `duration_s` decides
    instead where given. `before` is what the same voice said last, to go on from.
    UsageError: a number out of its range.
    """

    text: str
    voice: object = None
    speed: float = 1.0
    duration_s: float | None = None
    before: Spoken | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.speed <= 10:
            raise UsageError(f"speed is {self.speed}, not between 0.1 and 10")
        if self.duration_s is not None and not 0 < self.duration_s < inf:
            raise UsageError(f"duration is {self.duration_s} s, not above 0")

    def keep_pace_of(self, name: str) -> None:
        """InputError: a speed or a duration is asked of a model that decides itself."""
        if self.speed != 1 or self.duration_s is not None:
            raise InputError(
                f"{name} decides itself how fast it speaks", hint="ask for no speed or duration"
            )


class Speaker(Protocol):
    """A loaded model that speaks; nothing about it changes after loading.

    `voices` are the names that it knows, the first one its own choice; empty where it takes only
    recordings or has just one voice. `longest` is how many characters of text go well in one line.

    Optional: `language`, "en" where numbers, dates and the like are to be read as in English before
    the model gets them (without it, the note of its card tells); `codec`, the name of the codec
    whose tokens, in `Line.before`, it can go on from.
    """

    name: str
    weights_sha256: str
    rate: int
    voices: tuple[str, ...]
    longest: int

    def voice(self, source: str | Path | Audio | None) -> object:
        """The voice of a name, of a file (a recording, a token file, an exported voice) or None.

        InputError: there is none of this name, or the model cannot take a voice from this.
        """

    def check(self, text: str) -> None:
        """InputError that names what in a line's text the model cannot say."""

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """Lines together, as a batch; each sounds as it does alone.

        InputError where something else is asked for than the model can do (a speed, a duration,
        phonemes): it is never left out in silence.
        """

    def stream(self, line: Line) -> Iterator[NDArray[np.float32]]:
        """The samples of a line as soon as they are known; together, those of `say`.

        A generator may return the line as `say` gives it; without that, it may be said once more,
        for the next one to go on from.
        """


def load_speaker(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    own: Mapping[str, str] | None = None,
) -> Speaker:
    """Load a model that speaks, by catalogue name or from a local folder or file.

    `own` are settings that only this model has. ModelError: the model is unknown, damaged, not to
    be had without a network, or does not speak. UsageError: it has no such setting.
    """
    speaker: Speaker = load_maker(
        source, _MODULES, "speaker", "speak", device=device, dtype=dtype, threads=threads, own=own
    )
    return speaker


# Class of the model -> the module whose `speaker(loaded, source, *, device, dtype)` makes it one;
# it takes the settings, too, that are named in a `SETTINGS` of the module.
_MODULES = {
    "AlmTts": "alm_cli.systems.alm_speaker",
    "Bark": "alm_cli.systems.bark_speaker",
    "Csm": "alm_cli.systems.csm_speaker",
    "Dia": "alm_cli.systems.dia_speaker",
    "PocketTts": "alm_cli.systems.pocket_speaker",
    "SpeechT5": "alm_cli.systems.speecht5_speaker",
    "ValleX": "alm_cli.systems.valle_speaker",
    "Vits": "alm_cli.systems.vits_speaker",
}
