"""What was said before, as models that go on from it need it: in words and in codes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.errors import InputError
from alm_cli.nn.resample import resampled
from alm_cli.runtime import inference
from alm_cli.systems.plain_english import spaced, wordless
from alm_cli.systems.speaker import Spoken
from alm_cli.values import Audio, Latents, Tokens

Codes = NDArray[np.int32]


class Encoder(Protocol):
    """The part of a codec that is needed to hear."""

    rate: int

    def encode(self, wave: Tensor, codebooks: int | None) -> Tensor:
        """wave [B, 1, T] -> codes [B, K, F]."""


class Past:
    """Recordings and tokens -> words and codes [K, F] of the first `books`, each below `most`."""

    def __init__(
        self, codec: Encoder, name: str, books: int, most: int, device: torch.device
    ) -> None:
        self._codec, self._name, self._books, self._most = codec, name, books, most
        self._device = device

    def known(self, said: Spoken | Tokens | Latents) -> tuple[str, Codes]:
        """What was said before. InputError: its words are not known, or it is of another codec."""
        tokens = said.tokens if isinstance(said, Spoken) else said
        if isinstance(tokens, Tokens) and "text" in tokens.origin.notes:
            codes = tokens.codes[0]
            fits = tokens.origin.codec == self._name and tokens.codebooks == self._books
            if not fits or codes.min(initial=0) < 0 or codes.max(initial=0) >= self._most:
                raise InputError(
                    f"these are not tokens of {self._name} with {self._books} codebooks"
                )
            return tokens.origin.notes["text"], codes
        if isinstance(said, Spoken) and said.words:
            text = spaced("".join(word.text for word in said.words))
            return text, self.codes(Audio(said.samples[None], self._codec.rate))
        raise wordless("what was said before")

    def codes(self, audio: Audio) -> Codes:
        """A recording -> codes [K, F]."""
        with inference():
            mono = torch.from_numpy(audio.samples).mean(0, keepdim=True)
            wave = resampled(mono, audio.rate, self._codec.rate)
            return numbers(self._codec.encode(wave[None].to(self._device), self._books)[0])


def words_beside(path: Path) -> str:
    """What is said in `clip.wav`, as `clip.txt` has it. InputError: there is no such file."""
    words = path.with_suffix(".txt")
    if not words.is_file():
        raise wordless(str(path))
    return spaced(words.read_text(encoding="utf-8", errors="replace"))


def numbers(codes: Tensor) -> Codes:
    """Codes of any shape, as they are stored."""
    return cast(Codes, codes.cpu().numpy().astype(np.int32))
