"""Writing recordings: the formats, what each can carry, and one writer over every encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError, UsageError
from alm_cli.files.encoders import PcmSink, Sink, SoundfileSink
from alm_cli.files.pcm import ENCODINGS, RawFormat
from alm_cli.files.source import MAX_CHANNELS, MAX_RATE, MIN_RATE, Samples, check_sound
from alm_cli.files.streams import name_of, open_file


@dataclass(frozen=True, slots=True)
class WriteFormat:
    """What a format can carry; no `rates` means any, `encoding` is that of PCM formats."""

    suffix: str
    encoding: str | None = None
    rates: tuple[int, ...] = ()
    max_rate: int = MAX_RATE
    tens_above: int = MAX_RATE
    max_channels: int = MAX_CHANNELS

    @property
    def is_float(self) -> bool:
        """Whether samples beyond -1..1 survive."""
        return self.encoding is not None and self.encoding.startswith("f")

    def takes(self, rate: int) -> bool:
        """Whether the format can be written with `rate` hertz."""
        if self.rates:
            return rate in self.rates
        return MIN_RATE <= rate <= self.max_rate and (rate <= self.tens_above or rate % 10 == 0)

    @property
    def allowed(self) -> str:
        """The possible rates in words."""
        if self.rates:
            return ", ".join(map(str, self.rates)) + " Hz"
        tens = f", multiples of 10 above {self.tens_above}" if self.tens_above < MAX_RATE else ""
        return f"{MIN_RATE} to {self.max_rate} Hz{tens}"


_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
WRITE_FORMATS: Mapping[str, WriteFormat] = MappingProxyType(
    {
        "wav": WriteFormat(".wav", "s16le"),
        "wav24": WriteFormat(".wav", "s24le"),
        "wavf": WriteFormat(".wav", "f32le"),
        # The header of a frame has no room for other rates; libsndfile refuses them.
        "flac": WriteFormat(".flac", tens_above=65_535),
        # libvorbis 1.3 crashes above 200 kHz.
        "ogg": WriteFormat(".ogg", max_rate=192_000),
        "opus": WriteFormat(".opus", rates=_OPUS_RATES),
        "mp3": WriteFormat(".mp3", rates=_MP3_RATES, max_channels=2),
    }
    | {name: WriteFormat(f".{name}", name) for name in ENCODINGS if not name.endswith("law")}
)
_ALIASES = {".wave": "wav", ".oga": "ogg", ".raw": "s16le", ".pcm": "s16le"}


def format_of(path: Path) -> str:
    """The format that a suffix stands for; raises InputError."""
    suffix = path.suffix.lower()
    for name, kind in WRITE_FORMATS.items():
        if kind.suffix == suffix:
            return name
    if suffix in _ALIASES:
        return _ALIASES[suffix]
    known = sorted({kind.suffix for kind in WRITE_FORMATS.values()})
    raise InputError(f"{path}: the suffix names no format", hint=f"one of {' '.join(known)}")


class AudioWriter:
    """A recording being written; a context manager, which completes it unless an error passes.

    `clipped` counts the samples beyond -1..1 that were limited (floating point keeps them),
    `nonfinite` those that were not numbers and became 0.
    """

    def __init__(self, sink: Sink, name: str, kind: WriteFormat, resources: ExitStack) -> None:
        self.clipped = 0
        self.nonfinite = 0
        self._sink, self._name, self._kind, self._resources = sink, name, kind, resources

    def write(self, block: NDArray[np.float32]) -> None:
        """Append [C, n]; raises InputError, and BrokenPipeError when nobody reads any more."""
        samples = np.ascontiguousarray(block.T, np.float32)
        if samples.size and not (samples.min() >= -1 and samples.max() <= 1):  # also for NaN
            samples = self._limit(samples)
        with _failures(self._name):
            self._sink.write(samples)

    def _limit(self, samples: Samples) -> Samples:
        finite = np.isfinite(samples)
        self.nonfinite += samples.size - int(np.count_nonzero(finite))
        samples = np.where(finite, samples, np.float32(0))
        if self._kind.is_float:
            return samples
        self.clipped += int(np.count_nonzero(np.abs(samples) > 1))
        return samples.clip(-1, 1)

    def close(self) -> None:
        """Complete the output and release it; raises InputError."""
        self._close(finish=True)

    def _close(self, *, finish: bool) -> None:
        with self._resources, _failures(self._name):
            self._sink.close(finish=finish)

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close(finish=kind is None)


def open_writer(
    target: Path | BinaryIO,
    *,
    rate: int,
    channels: int,
    format: str | None = None,
    length: int | None = None,
    comment: str | None = None,
) -> AudioWriter:
    """Begin a recording in a file or pipe; raises InputError, and UsageError for the format.

    Without `format` the suffix decides, and a pipe gets WAV. `length` is the number of samples per
    channel if it is known: then even a pipe gets a complete WAV header. Compressed formats reach a
    pipe when they are closed. `comment` goes into the metadata of formats that have some.
    """
    name = name_of(target)
    format = format or (format_of(target) if isinstance(target, Path) else "wav")
    kind = _checked_format(name, format, rate, channels)
    with ExitStack() as resources, _failures(name):
        file, seekable = target, False  # a redirected standard output may hold more than ours
        if isinstance(file, Path):
            file = resources.enter_context(open_file(file, "wb"))
            seekable = file.seekable()
        sink: Sink
        if kind.encoding:
            form = RawFormat(kind.encoding, rate, channels)
            wav = kind.suffix == ".wav"
            sink = PcmSink(file, form, wav=wav, length=length, seekable=seekable, comment=comment)
        else:
            sink = SoundfileSink(file, format, rate, channels, seekable=seekable, comment=comment)
        return AudioWriter(sink, name, kind, resources.pop_all())


@contextmanager
def _failures(name: str) -> Iterator[None]:
    """Say where writing failed; a pipe that nobody reads is for the caller to handle."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{name}: cannot be written ({error.strerror or error})") from error


def _checked_format(name: str, format: str, rate: int, channels: int) -> WriteFormat:
    """The format, if it is known and can carry this."""
    kind = WRITE_FORMATS.get(format)
    if kind is None:
        raise UsageError(f"unknown format {format!r}", hint=f"one of {', '.join(WRITE_FORMATS)}")
    check_sound(name, rate, channels)
    if not kind.takes(rate):
        raise InputError(f"{name}: {format} cannot have {rate} Hz", hint=f"it takes {kind.allowed}")
    if channels > kind.max_channels:
        raise InputError(
            f"{name}: {format} cannot have {channels} channels",
            hint=f"it takes up to {kind.max_channels}; wav, flac and ogg take {MAX_CHANNELS}",
        )
    return kind
