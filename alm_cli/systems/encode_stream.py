"""Samples in pieces of any size -> tokens or features, as if they had come at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.errors import InputError
from alm_cli.nn.resample import Resampler
from alm_cli.nn.state import State
from alm_cli.values import Latents, Origin, Tokens

if TYPE_CHECKING:
    from alm_cli.systems.codec import Codec

Channels = Literal["mono", "dual", "native"]
Samples = NDArray[np.float32]

_MOST_HZ = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EncodeAsk:
    """How to encode: see `Codec.encoder`."""

    codebooks: int | None = None
    channels: Channels = "mono"
    segment_frames: int | None = None
    gain_db: float = 0.0
    windowed: float | None = None


class EncodeStream:
    """Samples in pieces of any size -> tokens, frame-exactly as if they had come at once."""

    def __init__(self, codec: Codec, rate: int, source_channels: int, ask: EncodeAsk) -> None:
        self._codec, self.ask = codec, ask
        self._model = codec.variant(ask.windowed)
        self._check(rate, source_channels)
        self.rate, self.channels = rate, source_channels
        self._streams = source_channels if ask.channels == "dual" else 1
        self._resampler = Resampler(rate, codec.rate)
        self._states = [State() for _ in range(self._streams)]
        self._waiting = torch.zeros(self._streams * self._model.channels, 0)
        self._source = _SourceDigest(keep=ask.segment_frames is not None)
        # Segments are made of the groups of frames that the model makes at a time.
        self._group = getattr(self._model, "frame_multiple", 1)
        self._segment_frames = ask.segment_frames and _up_to(ask.segment_frames, self._group)
        self._begun = False
        self._frames = self._emitted = self._segment = self._attributed = 0
        self._values: list[NDArray[Any]] = []
        self._sides: dict[str, list[NDArray[np.float32]]] = {}

    def push(self, samples: Samples) -> list[Tokens | Latents]:
        """samples [C, n] -> the segments that are now complete."""
        if samples.ndim != 2 or samples.shape[0] != self.channels:
            raise InputError(
                f"samples of shape {list(samples.shape)}",
                hint=f"pass [{self.channels}, n]: a row for each channel",
            )
        self._source.push(samples)
        self._take(self._resampler.push(self._mixed(samples)))
        return list(self._segments())

    def finish(self) -> list[Tokens | Latents]:
        """The rest: the last segments, of which the very last is marked final."""
        rest = self._resampler.finish()
        self._take(rest if rest.shape[1] else self._waiting[:, :0], last=True)
        segments = list(self._segments())
        return [*segments, self._cut(self._frames - self._emitted, final=True)]

    def _check(self, rate: int, source_channels: int) -> None:
        """Raise where the codec cannot take audio like this."""
        if not 1 <= rate <= _MOST_HZ or rate != int(rate):
            raise InputError(f"a sample rate of {rate} Hz", hint="pass whole samples per second")
        wide = self._model.channels
        if self.ask.channels == "native" and source_channels not in (1, wide):
            takes = "1 channel" if wide == 1 else f"1 or {wide} channels"
            raise InputError(
                f"{source_channels} channels, where {self._codec.name} takes {takes}",
                hint="--channels mono mixes them, --channels dual encodes each by itself",
            )

    def _mixed(self, samples: Samples) -> Tensor:
        """samples [C, n] -> rows [S * channels of the codec, n]."""
        x = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        if self.ask.gain_db:
            x = x * 10 ** (self.ask.gain_db / 20)
        wide = self._model.channels
        if self.ask.channels == "dual":
            return x.repeat_interleave(wide, 0)
        if self.ask.channels == "native" and wide > 1 and len(x) == wide:
            return x
        # The sum in double precision: the mean of equal channels is the channel itself.
        return x.double().mean(0, keepdim=True).float().repeat(wide, 1)

    def _take(self, rows: Tensor, last: bool = False) -> None:
        """Encode whole blocks of what has come; at the end, what is left."""
        self._waiting = torch.cat([self._waiting, rows], 1)
        if last and (self._begun or self._waiting.shape[1]):
            self._waiting = torch.nn.functional.pad(self._waiting, (0, self._model.delay))
        size = self._block_samples()
        while self._waiting.shape[1] > size:
            self._encode(self._waiting[:, :size], last=False)
            self._waiting = self._waiting[:, size:]
        if last and self._waiting.shape[1]:
            self._encode(self._waiting, last=True)

    def _block_samples(self) -> int:
        frames = min(self._model.block_frames, self._segment_frames or self._model.block_frames)
        return _up_to(frames, self._group) * self._model.hop

    def _encode(self, rows: Tensor, last: bool) -> None:
        waves = rows.view(self._streams, 1, self._model.channels, -1)
        for state in self._states:
            state.last = last
        batches = self._codec.batches
        if batches is not None and getattr(self._model, "by_blocks", False):
            found = batches.encode(self._model, waves, self.ask.codebooks, self._states)
        else:
            found = []
            with self._codec.computing():
                for wave, state in zip(waves, self._states, strict=True):
                    moved = wave.to(self._codec.device)
                    found.append(self._model.encode(moved, self.ask.codebooks, state)[0].cpu())
        self._begun = True
        number = torch.int32 if self._model.vocabularies else torch.float32
        self._values.append(torch.stack(found).to(number).numpy())
        self._frames += self._values[-1].shape[2]
        for name in list(self._states[0].side):
            parts = [state.side.pop(name).float().cpu() for state in self._states]
            self._sides.setdefault(name, []).append(torch.cat(parts, 1).numpy())

    def _segments(self) -> Iterator[Tokens | Latents]:
        """Complete segments, but never the last frames, which `finish` marks as final."""
        size = self._segment_frames
        while size is not None and self._frames - self._emitted > size:
            yield self._cut(size, final=False)

    def _cut(self, frames: int, final: bool) -> Tokens | Latents:
        books = self.ask.codebooks if self._model.vocabularies else self._model.dimension
        number = np.int32 if self._model.vocabularies else np.float32
        empty: NDArray[Any] = np.zeros((self._streams, books or 0, 0), number)
        values = np.concatenate([empty, *self._values], axis=2)
        self._values = [values[:, :, frames:]]
        # The last frames may be of one stretch more than there are whole groups of them.
        rows = None if final else frames // self._group
        side = {name: self._cut_side(name, rows) for name in self._sides}
        self._emitted += frames
        origin = self._origin(final)
        self._segment += 1
        kind = Tokens if self._model.vocabularies else Latents
        return kind(values[:, :, :frames], origin, side)

    def _cut_side(self, name: str, rows: int | None) -> NDArray[np.float32]:
        """The next rows, or all that are left."""
        whole = np.concatenate(self._sides[name])
        self._sides[name] = [] if rows is None else [whole[rows:]]
        return whole[:rows]

    def _origin(self, final: bool) -> Origin:
        """Each segment accounts for the samples of its own frames, the last one for the rest."""
        end = self._source.length
        if not final:
            end = min(end, self._emitted * self._codec.hop * self.rate // self._codec.rate)
        length, self._attributed = end - self._attributed, end
        return Origin(
            codec=self._codec.name,
            weights_sha256=self._codec.weights_sha256,
            rate=self._codec.rate,
            hop=self._codec.hop,
            frame_rate=self._codec.frame_rate,
            vocabularies=self._codec.vocabularies[: self.ask.codebooks],
            strides=self._codec.strides[: self.ask.codebooks],
            channels=self._model.channels,
            source_rate=self.rate,
            source_channels=self.channels,
            source_length=length,
            source_sha256=self._source.take(length),
            segment=self._segment,
            final=final,
            notes=self._notes(),
        )

    def _notes(self) -> dict[str, str]:
        notes = {"channels": str(self.ask.channels)}
        if self._codec.reduced:
            notes["dtype"] = str(self._codec.dtype).removeprefix("torch.")
        if self.ask.gain_db:
            notes["gain_db"] = repr(self.ask.gain_db)
        if self.ask.windowed is not None:
            notes["windowed"] = repr(self.ask.windowed)
        return notes


def _up_to(number: int, multiple: int) -> int:
    """The next multiple that is not below `number`."""
    return -(-number // multiple) * multiple


class _SourceDigest:
    """sha256 of the samples as they came (float32, little-endian, interleaved), by segment."""

    def __init__(self, keep: bool) -> None:
        self.length = 0
        self._keep = keep
        self._waiting: list[Samples] = []
        self._hash = hashlib.sha256()

    def push(self, samples: Samples) -> None:
        """samples [C, n] as they were read."""
        self.length += samples.shape[1]
        if self._keep:
            self._waiting.append(samples)
        else:
            self._hash.update(_interleaved(samples))

    def take(self, length: int) -> str:
        """The digest of the next `length` samples, or of all where segments are not kept."""
        if not self._keep:
            return self._hash.hexdigest()
        digest = hashlib.sha256()
        while length:
            block = self._waiting.pop(0)
            digest.update(_interleaved(block[:, :length]))
            if block.shape[1] > length:
                self._waiting.insert(0, block[:, length:])
            length -= min(length, block.shape[1])
        return digest.hexdigest()


def _interleaved(samples: Samples) -> bytes:
    return samples.T.astype("<f4").tobytes()
