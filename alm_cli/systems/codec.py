"""Audio <-> tokens with any codec family: whole, long or streamed, always by the same blocks.

A whole recording is the stream of its blocks, so memory is bounded and the codes cannot depend on
how the samples arrived. The model is called row by row: on a CPU a batch is slower per second of
audio than its rows, and rows then cannot influence one another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.nn.resample import Resampler, resampled_length
from alm_cli.nn.state import State
from alm_cli.runtime import device_of, dtype_of, inference, set_threads
from alm_cli.values import Audio, Origin, Tokens

Channels = Literal["mono", "dual", "native"]
Samples = NDArray[np.float32]


class CodecModel(Protocol):
    """What a codec family offers (see `alm_cli.codecs`)."""

    rate: int
    channels: int
    hop: int
    delay: int
    vocabularies: tuple[int, ...]
    block_frames: int
    first_frames: int

    def encode(self, wave: Tensor, codebooks: int | None, state: State | None) -> Tensor:
        """wave [B, C, T] -> codes [B, K, ceil(T / hop)]."""

    def decode(self, codes: Tensor, state: State | None) -> Tensor:
        """codes [B, K, F] -> wave [B, C, F * hop]."""


class Codec:
    """A loaded codec; nothing about it changes after loading."""

    def __init__(
        self,
        model: CodecModel,
        name: str,
        weights_sha256: str,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.name, self.weights_sha256 = model, name, weights_sha256
        self.device, self.dtype = device, dtype
        self.rate, self.hop, self.channels = model.rate, model.hop, model.channels
        self.vocabularies, self.delay = model.vocabularies, model.delay
        self.frame_rate = self.rate / self.hop

    def codebooks_for(self, bitrate_kbps: float) -> int:
        """The most codebooks whose nominal bitrate does not exceed `bitrate_kbps`.

        Raises UsageError where even one codebook needs more.
        """
        bits = np.cumsum([max(1, (size - 1).bit_length()) for size in self.vocabularies])
        kbps = bits * self.frame_rate / 1000
        count = int((kbps <= bitrate_kbps * (1 + 1e-9)).sum())
        if not count:
            raise UsageError(
                f"{bitrate_kbps:g} kbps is below the lowest bitrate of {self.name}",
                hint=f"one codebook is {kbps[0]:g} kbps, all {len(kbps)} are {kbps[-1]:g} kbps",
            )
        return count

    def encode(
        self, audio: Audio, *, codebooks: int | None = None, channels: Channels = "mono"
    ) -> Tokens:
        """Audio [C, T] -> tokens [S, K, F] of the whole recording."""
        stream = self.encoder(audio.rate, audio.channels, codebooks=codebooks, channels=channels)
        stream.push(audio.samples)
        return stream.finish()[0]

    def decode(
        self,
        tokens: Tokens,
        *,
        codebooks: int | None = None,
        rate: int | None = None,
        force: bool = False,
    ) -> Audio:
        """Tokens [S, K, F] -> audio of the original length, at `rate` or the original rate."""
        stream = self.decoder(codebooks=codebooks, rate=rate, force=force)
        whole = replace(tokens, origin=replace(tokens.origin, segment=0, final=True))
        blocks = list(stream.push(whole))
        empty = np.zeros((stream.channels, 0), np.float32)
        return Audio(np.concatenate([empty, *blocks], axis=1), stream.rate)

    def encoder(
        self,
        rate: int,
        source_channels: int,
        *,
        codebooks: int | None = None,
        channels: Channels = "mono",
        segment_frames: int | None = None,
    ) -> EncodeStream:
        """A stream of samples to tokens, in segments of `segment_frames` or in one piece."""
        return EncodeStream(
            self, rate, source_channels, self._checked(codebooks), channels, segment_frames
        )

    def decoder(
        self, *, codebooks: int | None = None, rate: int | None = None, force: bool = False
    ) -> DecodeStream:
        """A stream of token segments to blocks of samples."""
        return DecodeStream(self, codebooks, rate, force)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inference in the number type asked for; what must be exact stays in float32."""
        reduced = self.dtype is not torch.float32
        with inference(), torch.autocast(self.device.type, self.dtype, enabled=reduced):
            yield

    def _checked(self, codebooks: int | None) -> int:
        most = len(self.vocabularies)
        if codebooks is not None and not 1 <= codebooks <= most:
            raise UsageError(f"{self.name} has 1 to {most} codebooks, not {codebooks}")
        return most if codebooks is None else codebooks


class EncodeStream:
    """Samples in pieces of any size -> tokens, frame-exactly as if they had come at once."""

    def __init__(
        self,
        codec: Codec,
        rate: int,
        source_channels: int,
        codebooks: int,
        channels: Channels,
        segment_frames: int | None,
    ) -> None:
        self._codec, self._model, self._codebooks = codec, codec.model, codebooks
        self._rate, self._channels, self._mode = rate, source_channels, channels
        self._segment_frames = segment_frames
        self._streams = source_channels if channels == "dual" else 1
        self._resampler = Resampler(rate, codec.rate)
        self._states = [State() for _ in range(self._streams)]
        self._waiting = torch.zeros(self._streams * self._model.channels, 0)
        self._codes: list[NDArray[np.int32]] = []
        self._source = _SourceDigest(keep=segment_frames is not None)
        self._frames = self._emitted = self._segment = self._attributed = 0

    def push(self, samples: Samples) -> list[Tokens]:
        """samples [C, n] -> the segments that are now complete."""
        if samples.shape[0] != self._channels:
            raise InputError(f"{samples.shape[0]} channels after {self._channels}")
        self._source.push(samples)
        self._take(self._resampler.push(self._mixed(samples)))
        return list(self._segments())

    def finish(self) -> list[Tokens]:
        """The rest: the last segments, of which the very last is marked final."""
        rest = self._resampler.finish()
        self._take(rest if rest.shape[1] else self._waiting[:, :0], last=True)
        tokens = list(self._segments())
        return [*tokens, self._cut(self._frames - self._emitted, final=True)]

    def _mixed(self, samples: Samples) -> Tensor:
        """samples [C, n] -> rows [S * channels of the codec, n]."""
        x = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        wide = self._model.channels
        if self._mode == "dual":
            return x.repeat_interleave(wide, 0)
        if self._mode == "native" and wide > 1 and len(x) == wide:
            return x
        # The sum in double precision: the mean of equal channels is the channel itself.
        return x.double().mean(0, keepdim=True).float().repeat(wide, 1)

    def _take(self, rows: Tensor, last: bool = False) -> None:
        """Encode whole blocks of what has come; at the end, what is left."""
        self._waiting = torch.cat([self._waiting, rows], 1)
        if last and (self._frames or self._waiting.shape[1]):
            self._waiting = torch.nn.functional.pad(self._waiting, (0, self._model.delay))
        while self._waiting.shape[1] > (size := self._block_samples()):
            self._encode(self._waiting[:, :size], last=False)
            self._waiting = self._waiting[:, size:]
        if last and self._waiting.shape[1]:
            self._encode(self._waiting, last=True)

    def _block_samples(self) -> int:
        frames = min(self._model.block_frames, self._segment_frames or self._model.block_frames)
        if not self._frames:  # reflection at the start looks ahead by `first_frames`
            frames *= ceil(self._model.first_frames / frames)
        return frames * self._model.hop

    def _encode(self, rows: Tensor, last: bool) -> None:
        waves = rows.view(self._streams, 1, self._model.channels, -1)
        found = []
        with self._codec.computing():
            for wave, state in zip(waves, self._states, strict=True):
                state.last = last
                moved = wave.to(self._codec.device)
                found.append(self._model.encode(moved, self._codebooks, state)[0].cpu())
        codes = torch.stack(found).to(torch.int32).numpy()
        self._codes.append(codes)
        self._frames += codes.shape[2]

    def _segments(self) -> Iterator[Tokens]:
        """Complete segments, but never the last frames, which `finish` marks as final."""
        size = self._segment_frames
        while size is not None and self._frames - self._emitted > size:
            yield self._cut(size, final=False)

    def _cut(self, frames: int, final: bool) -> Tokens:
        shape = (self._streams, self._codebooks, 0)
        codes = np.concatenate([np.zeros(shape, np.int32), *self._codes], axis=2)
        self._codes = [codes[:, :, frames:]]
        self._emitted += frames
        origin = self._origin(final)
        self._segment += 1
        return Tokens(codes[:, :, :frames], origin)

    def _origin(self, final: bool) -> Origin:
        """Each segment accounts for the samples of its own frames, the last one for the rest."""
        end = self._source.length
        if not final:
            end = min(end, self._emitted * self._codec.hop * self._rate // self._codec.rate)
        length, self._attributed = end - self._attributed, end
        return Origin(
            codec=self._codec.name,
            weights_sha256=self._codec.weights_sha256,
            rate=self._codec.rate,
            hop=self._codec.hop,
            frame_rate=self._codec.frame_rate,
            vocabularies=self._codec.vocabularies[: self._codebooks],
            channels=self._model.channels,
            source_rate=self._rate,
            source_channels=self._channels,
            source_length=length,
            source_sha256=self._source.take(length),
            segment=self._segment,
            final=final,
            notes={"channels": self._mode},
        )


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


class DecodeStream:
    """Token segments in order -> blocks of samples, as if they had been decoded at once.

    `rate` and `channels` are known after the first segment was pushed.
    """

    def __init__(self, codec: Codec, codebooks: int | None, rate: int | None, force: bool) -> None:
        self._codec, self._model, self._codebooks = codec, codec.model, codebooks
        self._asked_rate, self._force = rate, force
        self.rate, self.channels = rate or codec.rate, codec.channels
        self._segment = 0

    def push(self, tokens: Tokens) -> Iterator[Samples]:
        """The next segment -> blocks [C, n]; segment 0 begins a recording, a final one ends it."""
        check_tokens(self._codec, tokens, self._codebooks, self._force)
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
        self._source_rate = tokens.origin.source_rate
        self.rate = self._asked_rate or self._source_rate
        self.channels = tokens.streams * self._model.channels
        self._resampler = Resampler(self._codec.rate, self.rate)
        self._states = [State() for _ in range(tokens.streams)]
        self._waiting = tokens.codes[:, :, :0]
        self._source_length = self._decoded = self._given = 0

    def _blocks(self, tokens: Tokens) -> Iterator[Samples]:
        final = tokens.origin.final
        self._source_length += tokens.origin.source_length
        codes = np.concatenate([self._waiting, tokens.codes], axis=2)
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
        """Frames of the next call: reflection at the start needs the first few at once."""
        least = 1 if self._decoded or final else self._model.first_frames
        return min(waiting, max(least, self._model.block_frames)) if waiting >= least else 0

    def _decode(self, codes: NDArray[np.int32], last: bool) -> Samples:
        """codes [S, K, F] -> samples [C, n] at the output rate, without delay and padding."""
        rows = []
        with self._codec.computing():
            for row, state in zip(codes[:, : self._codebooks], self._states, strict=True):
                state.last = last
                moved = torch.from_numpy(row[None].astype(np.int64))
                wave = self._model.decode(moved.to(self._codec.device), state)
                rows.append(wave[0].float().cpu())
        begin = max(0, self._model.delay - self._decoded)
        end = self._decoded_length() + self._model.delay - self._decoded if last else None
        samples = torch.cat(rows)
        self._decoded += samples.shape[1]
        return self._resampler.push(samples[:, begin:end]).numpy()

    def _decoded_length(self) -> int:
        """Samples of the recording at the codec's rate."""
        return resampled_length(self._source_length, self._source_rate, self._codec.rate)

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


def check_tokens(codec: Codec, tokens: Tokens, codebooks: int | None, force: bool) -> None:
    """Raise where `codec` cannot decode `tokens`, or should not because its weights differ."""
    origin, stored = tokens.origin, tokens.codebooks
    if origin.codec != codec.name and not force:
        raise ModelError(
            f"these tokens were made by {origin.codec}, not {codec.name}",
            hint=f"decode with --model {origin.codec}, or insist with --force",
        )
    if origin.weights_sha256 != codec.weights_sha256 and not force:
        raise ModelError(
            f"these tokens were made with other weights of {origin.codec} "
            f"({origin.weights_sha256[:12]}..., here {codec.weights_sha256[:12]}...)",
            hint="use the weights that made them, or insist with --force",
        )
    if stored > len(codec.vocabularies) or origin.vocabularies != codec.vocabularies[:stored]:
        raise InputError(f"{codec.name} cannot decode codebooks of {origin.vocabularies}")
    if tokens.codes.size and not 0 <= tokens.codes.min() <= tokens.codes.max() < max(
        codec.vocabularies
    ):
        raise InputError("codes outside the codebooks", hint="the tokens are damaged")
    if codebooks is not None and not 1 <= codebooks <= stored:
        raise UsageError(f"{stored} codebooks are stored, {codebooks} were asked for")


def load_codec(
    model: str | Path = "alm-codec",
    *,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
) -> Codec:
    """Load a codec by catalogue name or from a local folder or file.

    Raises ModelError where it is unknown, damaged, or cannot be had without a network.
    """
    place, number = device_of(device), dtype_of(dtype)
    set_threads(threads)
    loaded = load(model)
    if not hasattr(loaded.model, "vocabularies"):
        raise ModelError(f"{loaded.name} is not a codec", hint="`alm models list` names the codecs")
    placed = cast(CodecModel, loaded.model.to(place))
    return Codec(placed, loaded.name, loaded.weights_sha256, device=place, dtype=number)
