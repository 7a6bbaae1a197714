"""A recogniser that hears exactly: every letter is a tone, and `speak` makes the recording."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_cli.systems.emissions import Emissions
from alm_cli.systems.transcriber import Blocks, Recording

RATE, HOP = 16_000, 320
LETTERS = ("", " ", "'", *"abcdefghijklmnopqrstuvwxyz")
FRAME_S = HOP / RATE
Samples = NDArray[np.float32]


class Tones(nn.Module):
    """wave [B, 1, T] -> log-probabilities [B, ceil(T / 320), V]: which tone each frame has.

    Symbol i is a tone of 200 + 100 i Hz. A frame also sees a little of its neighbours, so that
    windows without context give others.
    """

    rate, hop = RATE, HOP

    def __init__(self, vocabulary: tuple[str, ...] = LETTERS, blank: int = 0) -> None:
        super().__init__()
        self.vocabulary, self.blank = vocabulary, blank
        self.longest = 0

    def frames(self, samples: int) -> int:
        return -(-samples // HOP)

    def forward(self, wave: Tensor) -> Tensor:
        self.longest = max(self.longest, wave.shape[-1])
        wave = nn.functional.pad(wave[:, 0], (0, -wave.shape[-1] % HOP))
        frames = wave.reshape(len(wave), -1, HOP)
        places = torch.arange(HOP) / RATE
        phases = 2 * torch.pi * places[:, None] * (200 + 100 * torch.arange(len(self.vocabulary)))
        heard = torch.hypot(frames @ phases.cos(), frames @ phases.sin()) / HOP
        heard = heard + 0.05 * (heard.roll(1, 1) + heard.roll(-1, 1))
        heard[..., self.blank] = 0.08
        return torch.log_softmax(200 * heard, -1)


def tones(vocabulary: tuple[str, ...] = LETTERS, blank: int = 0) -> Emissions:
    """The model, ready to listen."""
    model = Tones(vocabulary, blank)
    return Emissions(model=model, name="tones", weights_sha256="00", device=torch.device("cpu"))


def speak(
    text: str, *, vocabulary: tuple[str, ...] = LETTERS, loud: float = 0.5, blank: int = 0
) -> Samples:
    """samples [n]: each letter lasts 40 ms, with 20 ms after it; a "_" is 100 ms of silence."""
    made = [np.zeros(HOP, np.float32)]
    places = np.arange(2 * HOP) / RATE
    for letter in text:
        if letter == "_":
            made.append(np.zeros(5 * HOP, np.float32))
            continue
        symbol = vocabulary.index(letter)
        assert symbol != blank
        tone = loud * np.sin(2 * np.pi * (200 + 100 * symbol) * places)
        made += [tone.astype(np.float32), np.zeros(HOP, np.float32)]
    return np.concatenate(made)


def blocks(samples: Samples, size: int) -> Recording:
    """A recording that comes so many samples at a time."""
    return lambda: (samples[i : i + size].copy() for i in range(0, len(samples), size))


class Counted:
    """A recording that tells how much of it has been read."""

    def __init__(self, samples: Samples, size: int = 1600) -> None:
        self.samples, self.size, self.read = samples, size, 0

    def __call__(self) -> Blocks:
        return self._blocks()

    def _blocks(self) -> Iterator[Samples]:
        for begin in range(0, len(self.samples), self.size):
            self.read += len(self.samples[begin : begin + self.size])
            yield self.samples[begin : begin + self.size]
