"""VITS as a speaker: lines of text to samples, and when each word is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import Loaded
from alm_cli.errors import InputError, ModelError
from alm_cli.lm.vits import Prior, Vits, shared_frames, whole_frames
from alm_cli.nn.state import State
from alm_cli.runtime import dtype_of, inference, place, seeded
from alm_cli.systems.speaker import Line, Spoken
from alm_cli.text.characters import Characters, Script
from alm_cli.values import Audio, Word

# A second: the widest activations of the decoder stay inside a processor's cache.
_BLOCK_FRAMES = 64
# What a damaged model may ask for before it is stopped.
_LONGEST_S = 600


class VitsSpeaker:
    """A loaded VITS; nothing about it changes after loading.

    The first noise of a line is that of its durations, the second that of its frames, both from
    one generator with the seed of the line: the order and the numbers of `transformers` for a
    single text. `temperature` is the deviation of the second, to which the first keeps its ratio.
    """

    longest = 400

    def __init__(
        self,
        model: Vits,
        characters: Characters,
        name: str,
        weights_sha256: str,
        *,
        device: torch.device,
    ) -> None:
        self.name, self.weights_sha256, self.rate = name, weights_sha256, model.rate
        self.voices = tuple(map(str, range(model.speakers))) if model.speakers > 1 else ()
        self._model, self._characters, self._device = model, characters, device

    def voice(self, source: str | Path | Audio | None) -> int:
        """The number of a speaker; see `Speaker.voice`."""
        if source is None:
            return 0
        if isinstance(source, str) and source in self.voices:
            return int(source)
        known = f"0 to {self.voices[-1]}" if self.voices else "none: it has just one voice"
        raise InputError(f"{self.name} has no voice {source!r}", hint=f"it knows {known}")

    def check(self, text: str) -> None:
        """InputError that names what in a text the model cannot say."""
        self._characters.read(text)

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        """One after another, so that none depends on the others, not even in its last bit."""
        return [self._spoken(self._planned(line)) for line in lines]

    def stream(self, line: Line) -> Iterator[NDArray[np.float32]]:
        """The samples of a line, a second at a time."""
        return self._pieces(self._planned(line))

    def _spoken(self, plan: _Plan) -> Spoken:
        samples = np.concatenate(list(self._pieces(plan)))
        return Spoken(samples=samples, words=self._words(plan))

    def _planned(self, line: Line) -> _Plan:
        """All but the wave, which takes most of the time."""
        if line.top_k is not None or line.top_p is not None:
            raise InputError(
                f"{self.name} draws no tokens, so it has no top-k and no top-p",
                hint="--temperature makes it livelier or calmer",
            )
        script = self._characters.read(line.text)
        noise = seeded(line.seed)
        model, loud = self._model, _loudness(line, self._model)
        with inference():
            voice = model.voice(line.voice if isinstance(line.voice, int) else 0)
            prior = model.read(torch.tensor([script.ids], device=self._device))
            lengths = self._lengths(prior, len(script.ids), noise, voice, loud)
            frames, samples = self._frames(line, lengths)
            # In the order in memory of the reference: all latents of a frame together.
            drawn = torch.empty(1, sum(frames), model.latents).mT.normal_(generator=noise)
            drawn = drawn.to(self._device) * (model.noise * loud)
            latents = model.latent(prior, frames, drawn, voice)
        return _Plan(script, tuple(frames), samples, latents, voice)

    def _lengths(
        self,
        prior: Prior,
        count: int,
        noise: torch.Generator,
        voice: Tensor | None,
        loud: float,
    ) -> Tensor:
        """How many frames each character lasts [S], not whole."""
        model = self._model
        drawn = torch.randn(1, 2, count, generator=noise) if model.drawn else torch.zeros(1, 2, 0)
        drawn = drawn.to(self._device) * (model.duration_noise * loud)
        lengths = model.lengths(prior, drawn, voice).cpu()
        most = _LONGEST_S * self.rate / model.hop
        if not float(lengths.sum()) < most:  # it may be no number
            raise ModelError(
                f"{self.name} wants to speak {count} characters for more than {_LONGEST_S} s",
                hint="its weights may be damaged: fetch them again",
            )
        return lengths

    def _frames(self, line: Line, lengths: Tensor) -> tuple[list[int], int]:
        """Whole frames of each character, and how many samples they come to.

        A duration is exact to the sample: frames enough for it, of which the last one is cut.
        """
        hop = self._model.hop
        if line.duration_s is None:
            frames = whole_frames(lengths, 1 / (self._model.speed * line.speed))
            return frames, sum(frames) * hop
        samples = max(1, round(line.duration_s * self.rate))
        total = ceil(samples / hop)
        least, most = len(lengths), _LONGEST_S * self.rate // hop
        if not least <= total <= most:
            shortest = least * hop / self.rate
            raise InputError(
                f"{line.duration_s:g} s for {line.text.strip()[:40]!r}",
                hint=f"{self.name} can take from {shortest:.2f} s to {_LONGEST_S} s for it",
            )
        return shared_frames(lengths.double().clamp_min(1e-9).tolist(), total), samples

    def _pieces(self, plan: _Plan) -> Iterator[NDArray[np.float32]]:
        state, left = State(), plan.samples
        blocks = torch.split(plan.latents, _BLOCK_FRAMES, -1)
        for index, block in enumerate(blocks, 1):
            state.last = index == len(blocks)
            with inference():
                wave = self._model.decode(block, state, plan.voice)[0, 0, :left]
            left -= len(wave)
            if len(wave):
                yield wave.float().cpu().numpy()

    def _words(self, plan: _Plan) -> tuple[Word, ...]:
        edges = [0, *accumulate(plan.frames)]
        times = [min(edge * self._model.hop, plan.samples) / self.rate for edge in edges]
        return tuple(
            Word(start_s=times[begin], end_s=times[end], text=word)
            for word, begin, end in plan.script.words
        )


@dataclass(frozen=True)
class _Plan:
    """What is said, for how many frames each character, and how all of it shall sound."""

    script: Script
    frames: tuple[int, ...]
    samples: int
    latents: Tensor
    voice: Tensor | None


def _loudness(line: Line, model: Vits) -> float:
    """By how much all noise is multiplied."""
    return 1.0 if line.temperature is None else line.temperature / model.noise


def speaker(loaded: Loaded, source: str | Path, *, device: torch.device, dtype: str) -> VitsSpeaker:
    """A loaded VITS, ready to speak. ModelError: what it reads does not lie beside it."""
    model, characters = loaded.model, loaded.config.characters
    assert isinstance(model, Vits)
    if characters is None:
        raise ModelError(
            f"{source}: no vocab.json beside the weights, so nothing is known of its text",
            hint="fetch vocab.json and tokenizer_config.json of the model into the folder",
        )
    model.to(device)
    # Only the decoder takes time; rounded numbers before it would change durations.
    place(model.decoder, device, dtype_of(dtype))
    return VitsSpeaker(model, characters, loaded.name, loaded.weights_sha256, device=device)
