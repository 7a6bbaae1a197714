"""Frames of pocket-tts: latents from the language model, samples from the autoencoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby, islice, repeat
from math import sqrt
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.codecs.pocket_vae import PocketVae
from alm_cli.lm.pocket_tts import PocketTts
from alm_cli.nn.state import State
from alm_cli.runtime import inference
from alm_cli.systems.ahead import ahead, in_turn, one_core_each
from alm_cli.text.pocket_text import Piece

Samples = NDArray[np.float32]

# Before speech begins, some voices seem to be at its end.
_NO_END_BEFORE = 6
# Frames that are decoded together: the first at once, later ones as many as are fastest.
_GROUPS = (1, 1, 2)
_GROUP = 4
# What a new stream of the decoder begins with is heard as a click.
_FADE_S = 0.005
# Latents that may wait for the decoder: ten seconds.
_DEPTH = 128


@dataclass(frozen=True, eq=False)
class Ask:
    """Pieces of text to be said one after another, in a voice and from a seed."""

    pieces: Sequence[Piece]
    voice: State
    seed: int
    temperature: float
    threshold: float


@dataclass(frozen=True, eq=False)
class Frame:
    """The next latent [1, L] of an ask, as the autoencoder takes it."""

    ask: int
    piece: int
    latent: Tensor


@dataclass(frozen=True, eq=False)
class Sound:
    """The next samples of an ask, and the latents [L, F] that they are made of."""

    ask: int
    samples: Samples
    latents: NDArray[np.float32]


class Engine:
    """A model and its autoencoder; nothing about them changes."""

    def __init__(self, model: PocketTts, codec: PocketVae, device: torch.device) -> None:
        self.model, self.codec = model, codec
        self._device = device
        with inference():
            # Distilled to a single step.
            self._times = model.head.times(1)

    def listen(self, heard: Tensor) -> State:
        """heard [1, H, F], of a voice -> the stream that begins with it, to be forked."""
        state = State()
        with one_core_each(), inference():
            self.model.listen(heard.to(self._device), state)
        return state

    def hear(self, wave: Tensor) -> Tensor:
        """wave [1, 1, T] -> heard [1, H, F]."""
        with one_core_each(), inference():
            return self.codec.encode(wave.to(self._device))

    def say(self, asks: Sequence[Ask]) -> Iterator[Sound]:
        """What the asks sound like, one after another, as soon as it is known."""
        with one_core_each() as others:
            frames = self._frames(asks)
            both = others and self._device.type == "cpu"
            with closing(ahead(frames, _DEPTH) if both else in_turn(frames)) as latents:
                yield from in_turn(self._sounds(latents))

    def _frames(self, asks: Sequence[Ask]) -> Iterator[Frame]:
        for number, ask in enumerate(asks):
            # On the processor, so that a seed means the same noise everywhere.
            noise = torch.Generator().manual_seed(ask.seed)
            for place, piece in enumerate(ask.pieces):
                for latent in self._latents(ask, piece, noise):
                    yield Frame(number, place, latent)

    def _latents(self, ask: Ask, piece: Piece, noise: torch.Generator) -> Iterator[Tensor]:
        """The latents [1, L] of a piece, each from noise of its own."""
        model, state = self.model, ask.voice.fork()
        tokens = torch.tensor([piece.tokens], device=self._device)
        condition, end = model.read(tokens, state)
        size, left = sqrt(ask.temperature), piece.frames(model.frame_rate)
        ended = False
        for place in range(left):
            drawn = torch.randn(1, model.latent, generator=noise) * size
            latent = model.head(condition, drawn.to(condition), self._times)
            yield model.sounding(latent)
            left -= 1
            if not ended and place >= _NO_END_BEFORE and float(end) > ask.threshold:
                ended, left = True, min(left, piece.after)
            if not left:
                return
            condition, end = model.step(latent, state)

    def _sounds(self, frames: Iterable[Frame]) -> Iterator[Sound]:
        state = State()
        for group, begins in _grouped(frames):
            state = State() if begins else state
            latents = torch.stack([frame.latent for frame in group], -1)
            samples = cast(Samples, self.codec.decode(latents, state)[0, 0].cpu().numpy())
            if begins:
                samples = _faded(samples, self.codec.rate)
            yield Sound(group[0].ask, samples, latents[0].cpu().numpy())


def _grouped(frames: Iterable[Frame]) -> Iterator[tuple[list[Frame], bool]]:
    """Neighbours of the same piece, and whether they are its first."""
    for _, piece in groupby(frames, lambda frame: (frame.ask, frame.piece)):
        sizes, begins = chain(_GROUPS, repeat(_GROUP)), True
        while group := list(islice(piece, next(sizes))):
            yield group, begins
            begins = False


def _faded(samples: Samples, rate: int) -> Samples:
    """The samples, of which the first rise from silence."""
    length = min(round(_FADE_S * rate), len(samples))
    rise = np.linspace(0, 1, round(_FADE_S * rate), dtype=np.float32)[:length]
    return np.concatenate((samples[:length] * rise, samples[length:]))
