"""Segments of tokens in order -> blocks of samples, as if they had been decoded at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.nn.resample import Resampler, resampled_length
from alm_cli.nn.state import State
from alm_cli.values import Tokens

if TYPE_CHECKING:
    from alm_cli.systems.codec import Codec, DecodeAsk

Samples = NDArray[np.float32]


class DecodeStream:
    """Token segments in order -> blocks of samples, as if they had been decoded at once.

    `rate` and `channels` are known after the first segment was pushed.
    """

    def __init__(self, codec: Codec, ask: DecodeAsk) -> None:
        self._codec, self._ask = codec, ask
        self.rate, self.channels = ask.rate or codec.rate, codec.channels
        self._segment = 0

    def push(self, tokens: Tokens) -> Iterator[Samples]:
        """The next segment -> blocks [C, n]; segment 0 begins a recording, a final one ends it."""
        self._codec.check(tokens, self._ask)
        if tokens.origin.segment == 0:
            self._begin(tokens)
        elif tokens.origin.segment != self._segment:
            raise InputError(
                f"segment {tokens.origin.segment} where {self._segment} was expected",
                hint="the stream of tokens lost a part or was put together in another order",
            )
        self._segment = tokens.origin.segment + 1
        return self._blocks(tokens)

    def _begin(self, tokens: Tokens) -> None:
        self._model = self._codec.decoder_for(tokens.origin)
        self._group = getattr(self._model, "frame_multiple", 1)
        self._block = -(-self._model.block_frames // self._group) * self._group
        self._gain = 10 ** (-self._codec.gain_of(tokens.origin) / 20)
        self._source_rate = tokens.origin.source_rate
        self.rate = self._ask.rate or self._source_rate
        self.channels = tokens.streams * self._model.channels
        # Some models decode to another rate than they encode from.
        self._decoded_rate: int = getattr(self._model, "output_rate", self._codec.rate)
        self._resampler = Resampler(self._decoded_rate, self.rate)
        self._states = [State(self._ask.noise_seed) for _ in range(tokens.streams)]
        self._waiting = tokens.codes[:, :, :0]
        self._sides = {name: values[:0] for name, values in tokens.side.items()}
        self._source_length = self._decoded = self._given = 0

    def _blocks(self, tokens: Tokens) -> Iterator[Samples]:
        final = tokens.origin.final
        self._source_length += tokens.origin.source_length
        codes = np.concatenate([self._waiting, tokens.codes], axis=2)
        for name, values in tokens.side.items():
            self._sides[name] = np.concatenate([self._sides[name], values])
        while size := self._block_frames(codes.shape[2], final):
            last = final and size == codes.shape[2]
            yield from self._given_out(self._decode(codes[:, :, :size], last))
            codes = codes[:, :, size:]
        self._waiting = codes
        if final:
            rest = self._resampler.finish().numpy()
            silence = np.zeros((self.channels, 0), np.float32)
            yield from self._given_out(rest if rest.shape[1] else silence, final)

    def _block_frames(self, waiting: int, final: bool) -> int:
        """Frames of the next call: whole groups, as many as there are up to a block."""
        return min(waiting if final else waiting // self._group * self._group, self._block)

    def _decode(self, codes: NDArray[np.int32], last: bool) -> Samples:
        """codes [S, K, F] -> samples [C, n] at the output rate, without delay and padding."""
        # The last frames may be of one stretch more than there are whole groups of them.
        rows, side = [], self._side_of(None if last else codes.shape[2] // self._group)
        with self._codec.computing():
            for index, (row, state) in enumerate(
                zip(codes[:, : self._ask.codebooks], self._states, strict=True)
            ):
                state.last = last
                state.side = {name: values[:, index : index + 1] for name, values in side.items()}
                moved = torch.from_numpy(row[None].astype(np.int64))
                wave = self._model.decode(moved.to(self._codec.device), state)
                rows.append(wave[0].float().cpu())
        begin = max(0, self._model.delay - self._decoded)
        end = self._decoded_length() + self._model.delay - self._decoded if last else None
        samples = torch.cat(rows)
        self._decoded += samples.shape[1]
        return self._resampler.push(samples[:, begin:end] * self._gain).numpy()

    def _side_of(self, rows: int | None) -> dict[str, torch.Tensor]:
        """The next rows of side information [n, S], or all that are left."""
        taken = {name: values[:rows] for name, values in self._sides.items()}
        self._sides = {name: values[len(taken[name]) :] for name, values in self._sides.items()}
        return {
            name: torch.from_numpy(values).to(self._codec.device) for name, values in taken.items()
        }

    def _decoded_length(self) -> int:
        """Samples of the recording at the rate of what is decoded."""
        return resampled_length(self._source_length, self._source_rate, self._decoded_rate)

    def _given_out(self, samples: Samples, final: bool = False) -> Iterator[Samples]:
        """Exactly the length of the recording in all, whatever rounding left over or lacking."""
        if final:
            length = resampled_length(self._source_length, self._source_rate, self.rate)
            missing = length - self._given - samples.shape[1]
            samples = np.pad(samples, ((0, 0), (0, missing))) if missing > 0 else samples
            samples = samples[:, : length - self._given]
        self._given += samples.shape[1]
        if samples.shape[1]:
            yield np.ascontiguousarray(samples)
