"""MusicGen's network at work: pieces of any length, frame after frame of codes.

The model was trained on 30 s. What is longer is made in windows, each of which goes on from the
last 12 s of the one before, as AudioCraft does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.decoding.delays import delay
from alm_cli.decoding.sampling import Sampling, sample
from alm_cli.lm.musicgen import MusicGen, Told, guided
from alm_cli.nn.chroma import PITCHES
from alm_cli.nn.roomy import RoomyCache
from alm_cli.nn.state import State
from alm_cli.runtime import seeded
from alm_cli.systems.musicgen_steps import Steps

WINDOW_S, STRIDE_S = 30, 18

# How codes are drawn, by how much they are guided, and a generator for each row.
Rules = tuple[Sampling, float, Sequence[torch.Generator]]


@dataclass(frozen=True, eq=False)
class Work:
    """A piece as the model takes it: `words` [1, M, D] and codes of the `past` [K, P].

    `frames` are to come; `melody` [F, 12] goes on for ever, None: there is none.
    """

    words: Tensor
    past: Tensor
    frames: int
    melody: Tensor | None
    how: Sampling
    guidance: float
    seed: int

    @property
    def kind(self) -> Hashable:
        """What works that go side by side have in common."""
        return tuple(self.past.shape), self.how, self.guidance


class Engine:
    """Makes codes of works of one kind; a window has `window` frames, the next `stride` later.

    `melody_rate` is how many frames of a melody are as long as one of the codes. Keys and values
    are kept in `cache`, by default as they are computed.
    """

    def __init__(
        self,
        model: MusicGen,
        *,
        window: int,
        stride: int,
        melody_rate: float,
        cache: torch.dtype | None = None,
    ) -> None:
        self.model, self._cache = model, cache
        self.window, self.stride, self._melody_rate = window, stride, melody_rate
        self._device = model.decoder.norm.weight.device

    def kind(self, work: Work) -> Hashable:
        """Works of one kind can be made together; words that are read first are equally many."""
        return work.kind, tuple(work.words.shape) if self.model.config.melody else ()

    def frames(self, works: Sequence[Work]) -> Iterator[Tensor]:
        """Codes [B, K] of each new frame; of works that have ended, whatever comes."""
        noise = [seeded(work.seed, self._device) for work in works]
        prompt = torch.stack([work.past for work in works])
        total = prompt.shape[2] + max(work.frames for work in works)
        for begin in range(0, max(total - self.window + self.stride, 1), self.stride):
            told = self._told(works, begin)
            made: list[Tensor] = []
            grid = self._grid(prompt, min(total - begin, self.window))
            steps = self._steps(
                prompt.shape[2], grid, told, (works[0].how, works[0].guidance, noise)
            )
            for codes in self._together(steps):
                made.append(codes)
                yield codes
            prompt = torch.cat((prompt, torch.stack(made, 2)), 2)[:, :, self.stride :]

    def logits(self, work: Work, codes: Tensor) -> Tensor:
        """codes [1, K, F] -> logits [F + the last lag, K, V], guided, of every step."""
        grid, told = self._grid(codes, codes.shape[2]), self._told([work], 0)
        state = self._state(grid.shape[2])
        steps = F.pad(grid, (1, 0), value=self.model.config.codes)[:, :, :-1]
        found = [
            self.model.decoder(_rows(step, work.guidance), told, state)
            for step in torch.split(steps, 1, 2)
        ]
        return torch.cat(
            [one if work.guidance == 1 else guided(one, work.guidance) for one in found]
        )

    def _grid(self, prompt: Tensor, frames: int) -> Tensor:
        """prompt [B, K, P] -> [B, K, steps], -1 where codes are to be drawn.

        Before a book begins and after it ends stands the number after all codes; there, and where
        the prompt reaches, codes are drawn too and thrown away.
        """
        open_ended = F.pad(prompt, (0, frames - prompt.shape[2]), value=-1)
        return delay(open_ended, self.model.lags, self.model.config.codes)

    def _together(self, steps: Iterator[Tensor]) -> Iterator[Tensor]:
        """Codes [B, K] of every step -> those of each frame, which come in several steps."""
        lags, last = self.model.lags, deque[Tensor](maxlen=self.model.lags[-1] + 1)
        for codes in steps:
            last.append(codes)
            if len(last) == last.maxlen:
                yield torch.stack([last[lag][:, book] for book, lag in enumerate(lags)], 1)

    def _steps(self, known: int, grid: Tensor, told: Told, rules: Rules) -> Iterator[Tensor]:
        """grid [B, K, steps] -> codes [B, K] of each step after those that are known."""
        decoder, (how, guidance, noise) = self.model.decoder, rules
        start = F.pad(grid[:, :, :known], (1, 0), value=self.model.config.codes)
        read = 0 if told.read is None else told.read.shape[1]
        state = self._state(read + grid.shape[2])
        logits = decoder(_rows(start, guidance), told, state)
        if self._device.type == "cuda":
            yield from Steps(decoder, told, state, grid, rules).run(logits, known)
            return
        for now in grid.unbind(2)[known:]:
            codes = sample(logits if guidance == 1 else guided(logits, guidance), how, noise)
            codes = torch.where(now < 0, codes, now)
            yield codes
            logits = decoder(_rows(codes[:, :, None], guidance), told, state)

    def _state(self, positions: int) -> State:
        """A stream whose caches have room for all that will come."""
        state = State()
        for block in self.model.decoder.blocks:
            state.put(block.attention, RoomyCache(positions, self._cache))  # type: ignore[arg-type]
        return state

    def _told(self, works: Sequence[Work], begin: int) -> Told:
        """What the decoder goes by in a window from frame `begin` on."""
        dtype = self.model.decoder.norm.weight.dtype
        if self.model.config.melody:
            return Told(read=self._read(works, begin).to(dtype))
        longest = max(work.words.shape[1] for work in works)
        words = [F.pad(w.words, (0, 0, 0, longest - w.words.shape[1])) for w in works]
        mask = None
        if any(work.words.shape[1] < longest for work in works):
            lengths = torch.tensor([work.words.shape[1] for work in works], device=self._device)
            mask = torch.arange(longest, device=self._device) < lengths[:, None]
        return self.model.decoder.hear(torch.cat(words).to(dtype), mask)

    def _read(self, works: Sequence[Work], begin: int) -> Tensor:
        """[R, M, D]: a melody and the words, then as many rows of neither."""
        melody = torch.stack([self._melody(work, begin) for work in works])
        words = torch.cat([work.words for work in works])
        if works[0].guidance != 1:
            nothing = _no_melody(melody.shape[1], self._device).expand_as(melody)
            melody = torch.cat((melody, nothing))
            words = torch.cat((words, torch.zeros_like(words)))
        return torch.cat((self.model.melody(melody), words), 1)

    def _melody(self, work: Work, begin: int) -> Tensor:
        """[F, 12], the melody of a window; it begins again where it ends."""
        length = self.model.config.melody
        if work.melody is None:
            return _no_melody(length, self._device)
        first = round(begin * self._melody_rate)
        places = torch.arange(first, first + length, device=self._device)
        return work.melody[places % len(work.melody)]


def _no_melody(length: int, device: torch.device) -> Tensor:
    """[F, 12]: not zeros, but a C throughout, as silence has it."""
    return F.one_hot(torch.zeros(length, dtype=torch.long, device=device), PITCHES).float()


def _rows(codes: Tensor, guidance: float) -> Tensor:
    """codes [B, K, S] -> rows that are told something, and where they are guided the others."""
    return codes if guidance == 1 else codes.repeat(2, 1, 1)
