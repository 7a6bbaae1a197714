"""The arithmetic of tokens: rates, counts, bits, and what a language model needs to hold them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from operator import truediv

PCM_BITS = 16
KV_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class TokenRate:
    """A token format: `frame_rate` in hertz, codebooks, `streams` side by side.

    `vocabularies` has the size of each codebook; it is empty when the sizes are not known, or for
    features that are not quantised. `strides` says how many frames share a code of each codebook;
    empty where every frame has its own.
    """

    frame_rate: float
    codebooks: int
    vocabularies: tuple[int, ...] = ()
    streams: int = 1
    strides: tuple[int, ...] = ()

    @property
    def bits_per_frame(self) -> float:
        """Bits that store a frame of all streams, each code in whole bits; a mean with strides."""
        bits = [(size - 1).bit_length() for size in self.vocabularies]
        if self.strides:
            return self.streams * sum(map(truediv, bits, self.strides))
        return self.streams * sum(bits)

    @property
    def codes_per_frame(self) -> float:
        """Codes of all streams in a frame; a mean with strides."""
        shares = sum(1 / stride for stride in self.strides) if self.strides else self.codebooks
        return self.streams * shares

    @property
    def kbps(self) -> float:
        """Nominal kilobits (1000) per second."""
        return self.bits_per_frame * self.frame_rate / 1000

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all codebooks and streams in a second."""
        return self.codes_per_frame * self.frame_rate

    def frames(self, seconds: float) -> int:
        """Frames that cover `seconds`; the last one may be begun only."""
        return ceil(_exact(seconds) * _exact(self.frame_rate))

    def tokens(self, seconds: float) -> int:
        """Tokens of all codebooks and streams that cover `seconds`."""
        return ceil(self.frames(seconds) * self.codes_per_frame)

    def pcm_ratio(self, rate: int, channels: int = 1) -> float:
        """How many times fewer bits than 16-bit PCM of `rate` hertz and `channels`."""
        return rate * channels * PCM_BITS / (self.kbps * 1000)


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """The dimensions of a decoder that decide what its key-value cache costs."""

    layers: int
    kv_heads: int
    head_dim: int
    kv_dtype: str = "bfloat16"

    def cache_bytes(self, positions: int) -> int:
        """Bytes of keys and values of all layers for `positions`."""
        numbers = 2 * self.layers * self.kv_heads * self.head_dim * positions
        return numbers * KV_BYTES[self.kv_dtype]


def positions(tokens: int, compression: float) -> int:
    """Context positions of a model that takes `compression` tokens at a time."""
    return ceil(tokens / _exact(compression))


def _exact(number: float) -> Fraction:
    """The number as it was written: 1.1 s at 10 Hz is 11 frames, not 12."""
    return Fraction(Decimal(repr(number)))
