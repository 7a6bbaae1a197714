"""What CSM reads before it speaks: who says what, and how those sounded who spoke before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from alm_cli.codecs.mimi import Mimi
from alm_cli.errors import InputError
from alm_cli.files.audio import read_audio
from alm_cli.files.recognise import KNOWN_SUFFIXES, read_any
from alm_cli.lm.csm import Csm
from alm_cli.systems.past_speech import Past, words_beside
from alm_cli.systems.plain_english import check_english, longest_s, spaced, wordless
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.text.llama import LlamaTokenizer
from alm_cli.values import Audio, Latents, Tokens

CODEC = "mimi"
SPEAKERS = tuple(map(str, range(10)))
LONGEST = 300

_FRAME_RATE = 12.5


@dataclass(frozen=True, eq=False)
class Turn:
    """What a speaker said: the text, and the codes [K, F] of how it sounded."""

    speaker: str
    text: str
    codes: NDArray[np.int32]


@dataclass(frozen=True)
class CsmVoice:
    """The number of a speaker, and what that speaker has said."""

    speaker: str = SPEAKERS[0]
    said: tuple[Turn, ...] = ()


class Prompts:
    """Lines and voices -> what the model reads."""

    def __init__(self, model: Csm, codec: Mimi, tokenizer: LlamaTokenizer, name: str) -> None:
        self._model, self._tokenizer, self._name = model, tokenizer, name
        books, most = model.codebooks, codec.vocabularies[0]
        self._past = Past(codec, CODEC, books, most, self._device)

    def voice(self, source: str | Path | Audio | None) -> CsmVoice:
        """A speaker by number, or one who said a recording or a token file; see `CsmSpeaker`."""
        if source is None:
            return CsmVoice()
        if isinstance(source, Audio):
            raise wordless("a recording")
        if source in SPEAKERS:
            return CsmVoice(str(source))
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(
                f"there is no voice {str(source)!r}",
                hint=f"{self._name} has {', '.join(SPEAKERS)}, or takes a recording",
            )
        if path.suffix in KNOWN_SUFFIXES:
            return CsmVoice(said=(self._turn(read_any(path, str(path)), SPEAKERS[0]),))
        text = words_beside(path)
        self.check(text)
        return CsmVoice(said=(Turn(SPEAKERS[0], text, self._past.codes(read_audio(path))),))

    def check(self, text: str) -> None:
        """InputError: empty, too long, phonemes, or letters that English is not written with."""
        said = spaced(text)
        check_english(said, self._name)
        if self._needed(said) > self._model.positions:
            raise InputError(
                f"{len(said)} characters are too long for one line of {self._name}",
                hint=f"lines of up to {LONGEST} characters go well",
            )

    def vectors(self, line: Line) -> tuple[Tensor, int]:
        """All that is read before the first frame, [1, S, D], and how many frames may follow.

        What was said last is forgotten where there is no room for it. InputError: the recording of
        the voice leaves too little room.
        """
        voice, text = voice_of(line), spaced(line.text)
        before = () if line.before is None else (self._turn(line.before, voice.speaker),)
        room = self._model.positions - self._needed(text)
        for said in ((*voice.said, *before), voice.said):
            if self._length(said) <= room:
                parts = [vectors for turn in said for vectors in self._turn_vectors(turn)]
                parts.append(self._text_vectors(voice.speaker, text))
                return torch.cat(parts, 1), frames_of(text)
        raise InputError(
            "the recording of the voice is too long", hint="take one of 10 to 30 seconds"
        )

    def _turn(self, said: Spoken | Tokens | Latents, speaker: str) -> Turn:
        """What was said before, and by whom. InputError: see `Past`."""
        return Turn(speaker, *self._past.known(said))

    def _turn_vectors(self, turn: Turn) -> tuple[Tensor, Tensor]:
        """The vectors [1, S, D] of text and frames; a frame of zeros ends each recording."""
        codes = torch.from_numpy(turn.codes.T.astype(np.int64)).to(self._device)
        frames = self._model.frames(F.pad(codes, (0, 0, 0, 1))[None])
        return self._text_vectors(turn.speaker, turn.text), frames

    def _text_vectors(self, speaker: str, text: str) -> Tensor:
        return self._model.text(torch.tensor([self._read(speaker, text)], device=self._device))

    def _length(self, said: Sequence[Turn]) -> int:
        """The positions that turns take."""
        return sum(len(self._read(t.speaker, t.text)) + t.codes.shape[1] + 1 for t in said)

    def _needed(self, text: str) -> int:
        """The positions that a text takes, and the frames of it at most."""
        return len(self._read(SPEAKERS[0], text)) + frames_of(text)

    def _read(self, speaker: str, text: str) -> list[int]:
        """The tokens of what a speaker says."""
        return self._tokenizer.encode(f"[{speaker}]{text}")

    @property
    def _device(self) -> torch.device:
        return self._model.text_embedding.weight.device


def voice_of(line: Line) -> CsmVoice:
    """Who says a line: the first speaker unless it says."""
    return line.voice if isinstance(line.voice, CsmVoice) else CsmVoice()


def frames_of(text: str) -> int:
    """How many frames a text may take, so that a model that does not find the end stops."""
    return round(longest_s(text) * _FRAME_RATE)
