"""Audio <-> tokens with any codec family: whole, long or streamed, always by the same blocks.

A whole recording is the stream of its blocks, so memory is bounded and the codes cannot depend on
how the samples arrived. On a CPU the model is called row by row: a batch is slower there per second
of audio than its rows. On a GPU blocks of several recordings can be the rows of one batch
(`alm_cli.systems.row_batches`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from alm_cli.checkpoints.load import load
from alm_cli.checkpoints.parts import contents_sha256
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.nn.state import State
from alm_cli.runtime import device_of, dtype_of, inference, set_threads
from alm_cli.systems.agreement import Agreement
from alm_cli.systems.decode_stream import DecodeStream
from alm_cli.systems.encode_stream import Channels, EncodeAsk, EncodeStream
from alm_cli.systems.row_batches import RowBatches
from alm_cli.values import Audio, Latents, Origin, Tokens

# What a decoder must share with the codec in whose place it decodes, besides the codebooks.
_KINSHIP = ("rate", "channels", "hop")


class CodecModel(Protocol):
    """What a codec family offers (see `alm_cli.codecs`); one that only encodes lacks `decode`.

    Optional: `strides` where codebooks have frame rates of their own, `dimension` where there are
    no codebooks but features, `frame_multiple` where frames come in groups (`group_samples` where
    groups overlap), `output_rate` where decoding gives another rate, `windowed` for a variant of
    the same weights that works window by window, `by_blocks` where blocks are answered as they
    come, so that those of several recordings are worth a batch, `fills_up` where the end of a
    recording is filled up with silence, of which more would change nothing.
    """

    rate: int
    channels: int
    hop: int
    delay: int
    vocabularies: tuple[int, ...]
    block_frames: int
    dimension: int

    def encode(self, wave: Tensor, codebooks: int | None, state: State | None) -> Tensor:
        """wave [B, C, T] -> codes [B, K, F], or features [B, D, F]."""

    def decode(self, codes: Tensor, state: State | None) -> Tensor:
        """codes [B, K, F] -> wave [B, C, F * hop]."""

    def windowed(self, seconds: float) -> CodecModel:
        """The variant that works in windows of `seconds`."""


@dataclass(frozen=True, kw_only=True)
class DecodeAsk:
    """How to decode: see `Codec.decoder`."""

    codebooks: int | None = None
    rate: int | None = None
    force: bool = False
    noise_seed: int | None = 0


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
        decoder: CodecModel | None = None,
        rows: int = 1,
    ) -> None:
        self.model, self.name, self.weights_sha256 = model, name, weights_sha256
        self.device, self.dtype = device, dtype
        self.rate, self.hop, self.channels = model.rate, model.hop, model.channels
        self.vocabularies, self.delay = model.vocabularies, model.delay
        self.strides: tuple[int, ...] = getattr(model, "strides", ())
        self.frame_rate = self.rate / self.hop
        self._decoder = decoder
        self.batches: RowBatches | None = None
        if rows > 1:
            self.batches = RowBatches(self.computing, device, rows)

    @property
    def reduced(self) -> bool:
        """Whether it computes in another number type than float32, which may change codes."""
        return self.dtype is not torch.float32

    def in_float32(self) -> Codec:
        """The same model in float32."""
        return Codec(self.model, self.name, self.weights_sha256, device=self.device)

    def agreement(self, stream: EncodeStream) -> Agreement | None:
        """Tells how much of what goes into `stream` has the codes of float32.

        None where nothing is reduced, and for features.
        """
        if not self.reduced or not self.vocabularies:
            return None
        return Agreement(self, stream.rate, stream.channels, stream.ask)

    def codebooks_for(self, bitrate_kbps: float) -> int:
        """The most codebooks whose nominal bitrate does not exceed `bitrate_kbps`.

        Raises UsageError where even one codebook needs more, or where there are none.
        """
        if not self.vocabularies:
            raise self._no_codebooks()
        bits = [max(1, (size - 1).bit_length()) for size in self.vocabularies]
        strides = self.strides or (1,) * len(bits)
        kbps = np.cumsum(np.divide(bits, strides)) * self.frame_rate / 1000
        count = int((kbps <= bitrate_kbps * (1 + 1e-9)).sum())
        if not count:
            levels = f"one codebook is {kbps[0]:g} kbps, all {len(kbps)} are {kbps[-1]:g} kbps"
            raise UsageError(
                f"{bitrate_kbps:g} kbps is below the lowest bitrate of {self.name}", hint=levels
            )
        return count

    def encode(
        self, audio: Audio, *, codebooks: int | None = None, channels: Channels = "mono"
    ) -> Tokens:
        """Audio [C, T] -> tokens [S, K, F] of the whole recording.

        Raises ModelError where the model makes features; `encoder` gives them.
        """
        stream = self.encoder(audio.rate, audio.channels, codebooks=codebooks, channels=channels)
        stream.push(audio.samples)
        tokens = stream.finish()[0]
        if not isinstance(tokens, Tokens):
            raise ModelError(f"{self.name} makes features, not tokens")
        return tokens

    def decode(
        self,
        tokens: Tokens,
        *,
        codebooks: int | None = None,
        rate: int | None = None,
        force: bool = False,
        noise_seed: int | None = 0,
    ) -> Audio:
        """Tokens [S, K, F] -> audio of the original length, at `rate` or the original rate."""
        stream = self.decoder(codebooks=codebooks, rate=rate, force=force, noise_seed=noise_seed)
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
        gain_db: float = 0.0,
        windowed: float | None = None,
    ) -> EncodeStream:
        """A stream of samples to tokens, in segments of `segment_frames` or in one piece.

        `gain_db` is applied before encoding and undone by decoding; `windowed` asks for the
        variant of the model that works in windows of so many seconds.
        """
        most = len(self.vocabularies)
        if codebooks is not None and not most:
            raise self._no_codebooks()
        if codebooks is not None and not 1 <= codebooks <= most:
            raise UsageError(f"{self.name} has 1 to {most} codebooks, not {codebooks}")
        ask = EncodeAsk(
            codebooks=codebooks or most,
            channels=channels,
            segment_frames=segment_frames,
            gain_db=gain_db,
            windowed=windowed,
        )
        return EncodeStream(self, rate, source_channels, ask)

    def decoder(
        self,
        *,
        codebooks: int | None = None,
        rate: int | None = None,
        force: bool = False,
        noise_seed: int | None = 0,
    ) -> DecodeStream:
        """A stream of token segments to blocks of samples.

        Decoders that add noise take it from `noise_seed`; None means without noise.
        """
        ask = DecodeAsk(codebooks=codebooks, rate=rate, force=force, noise_seed=noise_seed)
        return DecodeStream(self, ask)

    def _no_codebooks(self) -> UsageError:
        """What to say to those who ask features for codebooks."""
        return UsageError(f"{self.name} makes features, which have no codebooks and no bitrate")

    def joined(self) -> AbstractContextManager[None]:
        """For a thread that encodes: others who encode at the same time wait for its blocks."""
        return nullcontext() if self.batches is None else self.batches.joined()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inference in the number type asked for; what must be exact stays in float32."""
        with inference(), torch.autocast(self.device.type, self.dtype, enabled=self.reduced):
            yield

    def variant(self, windowed: float | None) -> CodecModel:
        """The model itself, or its variant that works in windows of so many seconds."""
        if windowed is None:
            return self.model
        if not hasattr(self.model, "windowed"):
            raise UsageError(f"{self.name} is not made to work in windows")
        return self.model.windowed(windowed)

    def gain_of(self, origin: Origin) -> float:
        """The gain in decibels that encoding applied."""
        return noted(origin, "gain_db") or 0.0

    def decoder_for(self, origin: Origin) -> CodecModel:
        """The model that decodes tokens of this origin. ModelError: there is none."""
        model = self._decoder or self.variant(noted(origin, "windowed"))
        if not hasattr(model, "decode"):
            raise ModelError(
                f"{self.name} has no decoder", hint="its tokens are for language models to read"
            )
        return model

    def has_weights(self, sha256: str) -> bool:
        """Whether tokens with this digest are of these weights, be they in another file."""
        return sha256 == self.weights_sha256 or sha256 == self._contents_sha256

    @cached_property
    def _contents_sha256(self) -> str:
        """What tokens have whose codec lay in the checkpoint of a larger model."""
        return contents_sha256(cast(torch.nn.Module, self.model))

    def check(self, tokens: Tokens | Latents, ask: DecodeAsk) -> None:
        """Raise where `tokens` cannot be decoded, or should not because the weights differ."""
        origin = tokens.origin
        if origin.codec != self.name and not ask.force:
            raise ModelError(
                f"these tokens were made by {origin.codec}, not {self.name}",
                hint=f"decode with --model {origin.codec}, or insist with --force",
            )
        if not ask.force and not self.has_weights(origin.weights_sha256):
            raise ModelError(
                f"these tokens were made with other weights of {origin.codec} "
                f"({origin.weights_sha256[:12]}..., here {self.weights_sha256[:12]}...)",
                hint="use the weights that made them, or insist with --force",
            )
        if not isinstance(tokens, Tokens):
            raise InputError("holds features, which no codec here decodes")
        stored, known = tokens.codebooks, len(self.vocabularies)
        if stored > known or origin.vocabularies != self.vocabularies[:stored]:
            raise InputError(f"{self.name} cannot decode codebooks of {origin.vocabularies}")
        if tokens.codes.size and not 0 <= tokens.codes.min() <= tokens.codes.max() < max(
            self.vocabularies
        ):
            raise InputError("codes outside the codebooks", hint="the tokens are damaged")
        if ask.codebooks is not None and not 1 <= ask.codebooks <= stored:
            raise UsageError(f"{stored} codebooks are stored, {ask.codebooks} were asked for")


def noted(origin: Origin, key: str) -> float | None:
    """The number in a note of a token file, if it is there. InputError: it is not a number."""
    text = origin.notes.get(key)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not abs(number) < 1e6:
        raise InputError(f"the note {key} is {text[:40]!r}, not a number")
    return number


def load_codec(
    model: str | Path = "alm-codec",
    *,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    decoder: str | Path | None = None,
    rows: int = 1,
) -> Codec:
    """Load a codec by catalogue name or from a local folder or file; `decoder` likewise, instead
    of its own.

    Blocks of up to `rows` recordings that several threads encode at a time go together, where the
    model answers block by block; that is for a GPU. Raises ModelError where one is unknown,
    damaged, or cannot be had without a network, or where they do not go together.
    """
    place, number = device_of(device), dtype_of(dtype)
    set_threads(threads)
    loaded = load(model)
    if not hasattr(loaded.model, "vocabularies"):
        raise ModelError(f"{loaded.name} is not a codec", hint="`alm models list` names the codecs")
    placed = cast(CodecModel, loaded.model.to(place))
    other = None
    if decoder is not None:
        other = cast(CodecModel, _decoder(decoder, placed, loaded.name).to(place))
    return Codec(
        placed,
        loaded.name,
        loaded.weights_sha256,
        device=place,
        dtype=number,
        decoder=other,
        rows=rows,
    )


def _decoder(source: str | Path, codec: CodecModel, name: str) -> torch.nn.Module:
    """Another model that decodes what `codec` encodes. ModelError: it does not."""
    loaded = load(source)
    model = loaded.model
    books = getattr(model, "vocabularies", ())
    kin = all(getattr(model, fact, None) == getattr(codec, fact) for fact in _KINSHIP)
    if not (
        hasattr(model, "decode") and kin and books and books == codec.vocabularies[: len(books)]
    ):
        raise ModelError(
            f"{loaded.name} does not decode the tokens of {name}",
            hint="a decoder must have the codec's sample rate, channels, hop and codebooks",
        )
    return model
