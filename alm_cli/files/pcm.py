"""Interleaved PCM: the bytes of every common sample encoding to float32 and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import UsageError
from alm_cli.files.source import Samples
from alm_cli.files.streams import PIECE, ByteStream

# Name -> (NumPy type, bytes of a sample). Three-byte samples travel in the high bytes of four.
ENCODINGS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "u8": ("u1", 1),
        "s8": ("i1", 1),
        "s16le": ("<i2", 2),
        "s16be": (">i2", 2),
        "s24le": ("<i4", 3),
        "s24be": (">i4", 3),
        "s32le": ("<i4", 4),
        "s32be": (">i4", 4),
        "f32le": ("<f4", 4),
        "f32be": (">f4", 4),
        "f64le": ("<f8", 8),
        "f64be": (">f8", 8),
        "mulaw": ("u1", 1),
        "alaw": ("u1", 1),
    }
)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """PCM without a header: one of `ENCODINGS`, hertz, channels. Raises UsageError."""

    encoding: str
    rate: int
    channels: int

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise UsageError(
                f"unknown sample encoding {self.encoding!r}", hint=f"one of {', '.join(ENCODINGS)}"
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * ENCODINGS[self.encoding][1]


def unpack(data: bytes, encoding: str) -> Samples:
    """Whole samples -> float32 [n], integers scaled by their full range to -1..1."""
    if encoding in _COMPANDED:
        return _COMPANDED[encoding]()[np.frombuffer(data, np.uint8)]
    kind, width = ENCODINGS[encoding]
    words = np.frombuffer(_widen(data, kind) if width == 3 else data, kind)
    return to_float(words)


def to_float(words: NDArray[Any]) -> Samples:
    """Numbers of any NumPy type -> float32, integers scaled by their full range to -1..1."""
    if words.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # too large for float32: infinite
            return words.astype(np.float32)
    if words.dtype.kind == "u":
        return (words.astype(np.float32) - np.float32(128)) / np.float32(128)
    return words.astype(np.float32) * np.float32(2.0 ** (1 - 8 * words.dtype.itemsize))


def pack(samples: Samples, encoding: str) -> bytes:
    """Float32 of any shape -> bytes in C order; integers are rounded without bias and clipped."""
    kind, width = ENCODINGS[encoding]
    if np.dtype(kind).kind == "f":
        return samples.astype(kind).tobytes()
    words = quantise(samples, 8 * width)
    if kind == "u1":
        words += 128
    data = words.astype(kind).tobytes()
    return _narrow(data, kind) if width == 3 else data


def quantise(samples: Samples, bits: int) -> NDArray[np.int64]:
    """Float samples -> integers of `bits` bits: half to even, full scale 2^(bits - 1), clipped."""
    top = 1 << (bits - 1)
    return np.clip(np.rint(samples.astype(np.float64) * top), -top, top - 1).astype(np.int64)


def _widen(data: bytes, kind: str) -> bytes:
    """Three-byte samples -> four bytes, the new one being the lowest."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    start = 1 if kind == "<i4" else 0
    wide[:, start : start + 3] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.tobytes()


def _narrow(data: bytes, kind: str) -> bytes:
    """Four-byte words of 24-bit values -> three bytes, leaving out the highest."""
    start = 0 if kind == "<i4" else 1
    return np.frombuffer(data, np.uint8).reshape(-1, 4)[:, start : start + 3].tobytes()


def _mulaw() -> Samples:
    """The 256 values of mu-law (ITU-T G.711)."""
    code = ~np.arange(256) & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << ((code >> 4) & 7)) - 0x84
    return (np.where(code & 0x80, -size, size) / 32768).astype(np.float32)


def _alaw() -> Samples:
    """The 256 values of A-law (ITU-T G.711)."""
    code = np.arange(256) ^ 0x55
    exponent = (code >> 4) & 7
    size = ((code & 0x0F) << 4) + 8 + np.where(exponent, 0x100, 0) << np.maximum(exponent - 1, 0)
    return (np.where(code & 0x80, size, -size) / 32768).astype(np.float32)


_COMPANDED: Mapping[str, Callable[[], Samples]] = {"mulaw": _mulaw, "alaw": _alaw}


class PcmSource:
    """PCM of a stream, in the pieces in which it arrives.

    `declared` is the number of bytes that a header promises, `available` the number that the file
    holds; None where unknown. `truncated` when the stream ends early or within a sample.
    """

    def __init__(
        self,
        stream: ByteStream,
        form: RawFormat,
        *,
        container: str = "raw",
        declared: int | None = None,
        available: int | None = None,
    ) -> None:
        self.rate, self.channels, self.container = form.rate, form.channels, container
        known = [size for size in (declared, available) if size is not None]
        self.length = min(known) // form.frame_bytes if known else None
        self.seconds = None if self.length is None else self.length / form.rate
        self.truncated = len(known) == 2 and known[1] < known[0]
        self._stream, self._form, self._left = stream, form, declared

    def chunks(self) -> Iterator[Samples]:
        """Blocks [n, C] as they arrive."""
        width, rest = self._form.frame_bytes, b""
        while data := self._stream.read(self._wanted()):
            if self._left is not None:
                self._left -= len(data)
            data = rest + data
            whole = len(data) - len(data) % width
            yield unpack(data[:whole], self._form.encoding).reshape(-1, self.channels)
            rest = data[whole:]
        self.truncated = self.truncated or bool(rest) or bool(self._left)

    def skip(self, samples: int) -> int:
        """Leave out the first samples without converting them; how many there were."""
        known = samples if self.length is None else min(samples, self.length)
        self._stream.skip(known * self._form.frame_bytes)
        if self._left is not None:
            self._left -= known * self._form.frame_bytes
        return known

    def _wanted(self) -> int:
        return PIECE if self._left is None else min(self._left, PIECE)

    def close(self) -> None:
        """Nothing to release: the stream belongs to the reader."""
