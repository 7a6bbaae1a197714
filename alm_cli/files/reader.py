"""Reading recordings: one forward-only reader over every decoder, from files and pipes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.files.pcm import PcmSource, RawFormat
from alm_cli.files.source import DamagedError, Samples, Source, check_sound
from alm_cli.files.streams import ByteStream, name_of, open_file, spool
from alm_cli.files.wav import is_wav, read_wav_header
from alm_cli.values import Audio

_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a header says; `length` (samples per channel) is exact or None, `seconds` may round."""

    rate: int
    channels: int
    length: int | None
    seconds: float | None
    container: str
    bytes: int


class AudioReader:
    """A recording read once, forward; a context manager.

    `length` is the number of samples per channel that the header declares, None where it is known
    at the end only. `truncated` tells that the file ends too early; like the counts and `sha256`
    it is complete when the blocks have been read.
    """

    def __init__(self, source: Source, name: str, resources: ExitStack) -> None:
        self.rate, self.channels = source.rate, source.channels
        self.length, self.seconds = source.length, source.seconds
        self.container, self.name = source.container, name
        self.position = 0  # samples per channel read so far
        self.nonfinite = 0  # NaN and infinite samples, which became 0
        self.clipped = 0  # samples beyond -1..1, which are kept
        self._source, self._resources = source, resources
        self._sum = hashlib.sha256()
        self._clean = self._read()
        self._rest = np.zeros((0, source.channels), np.float32)
        self._skip = 0

    @property
    def truncated(self) -> bool:
        """Whether the file holds less than its header promises, or ends within a sample."""
        return self._source.truncated

    @property
    def sha256(self) -> str:
        """Of the samples read so far as little-endian float32, interleaved."""
        return self._sum.hexdigest()

    def skip(self, samples: int) -> None:
        """Begin so many samples later, exactly; to be said before the first block is asked for."""
        self._skip = samples

    def blocks(self, samples: int) -> Iterator[NDArray[np.float32]]:
        """Blocks [C, samples] of what is left, the last one shorter; raises InputError."""
        while len(block := self._take(samples)):
            yield np.ascontiguousarray(block.T)

    def _take(self, samples: int) -> Samples:
        """The next `samples`, fewer only at the end: [n, C]."""
        parts, missing = [self._rest[:0]], samples
        while missing:
            if not len(self._rest):
                self._rest = next(self._clean, self._rest)
            if not len(self._rest):
                break
            parts.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def _read(self) -> Iterator[Samples]:
        try:
            for chunk in self._chunks():
                if chunk.size:
                    chunk = self._mend(chunk)
                    self._sum.update(np.ascontiguousarray(chunk, "<f4").data)
                    self.position += len(chunk)
                    yield chunk
        except DamagedError as error:
            where = f"{self.position / self.rate:.2f} s"
            raise InputError(
                f"{self.name}: damaged after {where} ({error})",
                hint="`ffmpeg -i FILE out.wav` saves what can be saved",
            ) from error

    def _chunks(self) -> Iterator[Samples]:
        """What the source gives after the samples to skip, which most sources leave out quickly."""
        quick = getattr(self._source, "skip", None)
        left = self._skip - (quick(self._skip) if quick else 0)
        for chunk in self._source.chunks():
            yield chunk[left:] if left else chunk
            left -= min(left, len(chunk))

    def _mend(self, chunk: Samples) -> Samples:
        """Replace what is not a number, count what is beyond full scale."""
        if chunk.min() >= -1 and chunk.max() <= 1:  # false for NaN
            return chunk
        finite = np.isfinite(chunk)
        self.nonfinite += chunk.size - int(np.count_nonzero(finite))
        chunk = np.where(finite, chunk, np.float32(0))
        self.clipped += int(np.count_nonzero(np.abs(chunk) > 1))
        return chunk

    def close(self) -> None:
        """Release the file."""
        self._resources.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_audio(source: Path | BinaryIO, *, raw: RawFormat | None = None) -> AudioReader:
    """Open a file, or a pipe such as standard input; raises InputError.

    WAV and raw samples come from a pipe as they arrive. Other formats are first copied to a
    temporary file, so that both ways lead through the same decoder to the same samples.
    """
    name = name_of(source)
    with ExitStack() as resources:
        file, size = source, None
        if isinstance(file, Path):
            file = resources.enter_context(open_file(file, "rb"))
            status = os.fstat(file.fileno())
            size = status.st_size if stat.S_ISREG(status.st_mode) else None
        stream = ByteStream(file, name)
        head = b"" if raw else stream.peek(12)
        if not (raw or head):
            raise InputError(f"{name}: empty, there is no sound in it")
        found: Source | None = _find_pcm(stream, head, raw, size)
        if found is None:
            from alm_cli.files.decoders import open_decoder

            if size is None:
                file = resources.enter_context(spool(stream))
            found = open_decoder(file, name, head)
            resources.callback(found.close)
        check_sound(name, found.rate, found.channels)
        return AudioReader(found, name, resources.pop_all())


def _find_pcm(
    stream: ByteStream, head: bytes, raw: RawFormat | None, size: int | None
) -> PcmSource | None:
    """The samples of a raw or WAV stream of `size` bytes, None for another format."""
    declared, container = None, "raw"
    if raw is None:
        if not is_wav(head):
            return None
        header = read_wav_header(stream)
        if header.encoding is None and size is None:
            raise InputError(
                f"{stream.name}: this WAV is compressed or unusual, and cannot come from a pipe",
                hint="give it as a file",
            )
        if header.encoding is None:
            return None
        raw = RawFormat(header.encoding, header.rate, header.channels)
        declared, container = header.size, "wav"
    check_sound(stream.name, raw.rate, raw.channels)
    available = None if size is None else max(size - stream.position, 0)
    return PcmSource(stream, raw, container=container, declared=declared, available=available)


def read_audio(source: Path | BinaryIO, *, raw: RawFormat | None = None) -> Audio:
    """A whole recording; raises InputError."""
    with open_audio(source, raw=raw) as reader:
        blocks = list(reader.blocks(_BLOCK))
        silence = np.zeros((reader.channels, 0), np.float32)
        return Audio(np.concatenate(blocks, axis=1) if blocks else silence, reader.rate)


def probe_audio(path: Path) -> AudioInfo:
    """What the header of a file says, without decoding it; raises InputError."""
    with open_audio(path) as reader:
        return AudioInfo(
            rate=reader.rate,
            channels=reader.channels,
            length=reader.length,
            seconds=reader.seconds,
            container=reader.container,
            bytes=path.stat().st_size,
        )
