"""The values that flow between the layers: frozen, numpy only, without batch axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A recording: samples [C, T] float32, nominally within -1..1, at `rate` hertz."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def length(self) -> int:
        """Samples per channel."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.length / self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a stretch of tokens comes from, so that decoding restores it and can be verified.

    `strides` says of each codebook how many frames share a code; empty where each has its own.
    """

    codec: str
    weights_sha256: str
    rate: int
    hop: int
    frame_rate: float
    vocabularies: tuple[int, ...]
    channels: int
    source_rate: int
    source_channels: int
    source_length: int
    source_sha256: str
    segment: int = 0
    final: bool = True
    notes: Mapping[str, str] = field(default_factory=dict)
    strides: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        return self.source_length / self.source_rate


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Codes [S, K, F] int32: S streams (1, or one per channel), K codebooks, F frames."""

    codes: NDArray[np.int32]
    origin: Origin
    side: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def streams(self) -> int:
        return int(self.codes.shape[0])

    @property
    def codebooks(self) -> int:
        return int(self.codes.shape[1])

    @property
    def frames(self) -> int:
        return int(self.codes.shape[2])


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Continuous values [S, D, F] float32 for models without a quantiser."""

    values: NDArray[np.float32]
    origin: Origin
    side: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def streams(self) -> int:
        return int(self.values.shape[0])

    @property
    def codebooks(self) -> int:
        """None: there are dimensions instead."""
        return 0

    @property
    def frames(self) -> int:
        return int(self.values.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word as written, with the space before it, and when it is said, in seconds."""

    start_s: float
    end_s: float
    text: str
    probability: float = nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of speech, in seconds of the recording, with the text as the model gave it.

    `tokens` and what follows are what `openai-whisper` tells of a segment; models that lack one of
    these leave NaN. `seek` is the frame (of 10 ms) where the decoded window began.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = ()
    seek: int = 0
    temperature: float = nan
    avg_logprob: float = nan
    compression_ratio: float = nan
    no_speech_prob: float = nan
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said in a whole recording, and which model says so."""

    segments: tuple[Segment, ...]
    language: str | None
    model: str
    weights_sha256: str

    @property
    def text(self) -> str:
        """All that was said, as the models of Whisper's family join it."""
        return "".join(segment.text for segment in self.segments)
