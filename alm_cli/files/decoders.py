"""Compressed and unusual recordings: libsndfile for the lossless formats, FFmpeg for the rest.

MP3, Vorbis and Opus go through FFmpeg although libsndfile knows them: there it prints the MP3
decoder's complaints to standard error, stops at the first join of a chained Ogg stream without a
word, and leaves more than two Vorbis channels in an order of their own. libsndfile stays the
decoder of FLAC because it checks every frame, where FFmpeg drops damaged ones silently.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import av
import numpy as np
import soundfile as sf
from av.codec.context import Flags2

from alm_cli.errors import InputError
from alm_cli.files.pcm import to_float
from alm_cli.files.source import DamagedError, Samples, Source

_CHUNK = 1 << 15  # samples per channel and call
# libsndfile says 2^63 - 1 where a header leaves the length open, and then fails at the end.
_MAX_LENGTH = 1 << 40
_VORBIS_BLOCK = 8192
_PLANES = 8  # PyAV crashes on frames with so many planes, which fill the array that it walks


class UnreadableError(Exception):
    """This decoder cannot open the file; another one may."""


def open_decoder(file: BinaryIO, name: str, head: bytes) -> Source:
    """The first decoder that can open `file`, whatever its suffix; raises InputError."""
    lossy = head[:4] == b"OggS" or head[:3] == b"ID3" or head[0] == 0xFF
    reason = ""
    for opener in (PyavSource,) if lossy else (SoundfileSource, PyavSource):
        try:
            file.seek(0)
            return opener(file)
        except UnreadableError as error:
            reason = str(error)
    raise InputError(f"{name}: not a recording that can be read ({reason})", hint=_advice(head))


def _advice(head: bytes) -> str:
    if head[8:9] == b"{":
        return "this looks like a token file: alm decode"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head):
        return "this looks like text"
    return "does `ffmpeg -i FILE out.wav` read it?"


class SoundfileSource:
    """A file that libsndfile reads: FLAC, AIFF, AU, CAF, W64, the rarer kinds of WAV."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            # By descriptor: given a name, soundfile believes its suffix.
            self._file = sf.SoundFile(file.fileno(), closefd=False)
        except (sf.SoundFileError, TypeError, ValueError) as error:
            raise UnreadableError(_reason(error)) from error
        self.container = str(self._file.format).lower()
        self.rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self._frames = int(self._file.frames)
        self.length: int | None = self._frames
        self.seconds: float | None = self._frames / max(self.rate, 1)
        if not 0 <= self._frames < _MAX_LENGTH:
            self.close()
            raise UnreadableError("no length in its header")
        # libsndfile's log is the only trace of a chunk that promises more than the file holds.
        self.truncated = "should be" in str(self._file.extra_info)

    def chunks(self) -> Iterator[Samples]:
        """Blocks [n, C]; raises DamagedError."""
        seen = self._file.tell()
        while len(block := self._read()):
            seen += len(block)
            yield block
        self.truncated = self.truncated or seen < self._frames

    def skip(self, samples: int) -> int:
        """Leave out the first samples, to the sample in all these formats; how many there were."""
        try:
            return int(self._file.seek(min(samples, self._frames)))
        except sf.SoundFileError as error:
            raise DamagedError(_reason(error)) from error

    def _read(self) -> Samples:
        try:
            block: Samples = self._file.read(_CHUNK, dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            raise DamagedError(_reason(error)) from error
        return block

    def close(self) -> None:
        """Release the decoder."""
        self._file.close()


class PyavSource:
    """The first audio track of anything that FFmpeg reads; the length is known at the end only."""

    length: int | None = None

    def __init__(self, file: BinaryIO) -> None:
        try:
            # As a file object and without protocols: a name may be "http:..." or a playlist that
            # points elsewhere. Tags in other character sets must not stop anybody.
            self._container = av.open(
                _Window(file),
                "r",
                metadata_errors="replace",
                options={"protocol_whitelist": "none"},
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UnreadableError(_reason(error)) from error
        self.truncated = False
        try:
            self._open(getattr(file, "name", ""))
        except BaseException:
            self.close()
            raise

    def _open(self, name: object) -> None:
        # A track in an unknown codec has no context, whatever its type says.
        tracks = [s for s in self._container.streams.audio if getattr(s, "codec_context", None)]
        if not tracks:
            raise UnreadableError("no audio track that can be decoded")
        stream = tracks[0]
        names = self._container.format.name.split(",")
        suffix = os.path.splitext(str(name))[1][1:].lower()
        self.container = suffix if suffix in names else names[0]
        self.seconds = _seconds(self._container, stream)
        # Rate and channels of a header may be those of the core of HE-AAC: the first frame counts.
        self.rate, self.channels = stream.codec_context.sample_rate, stream.codec_context.channels
        self._ogg_vorbis = "ogg" in names and stream.codec_context.name == "vorbis"
        if self._ogg_vorbis:
            # FFmpeg cuts both ends by time stamps, which are wrong in a stream of a single page.
            stream.codec_context.flags2 |= Flags2.skip_manual
        self._blocks = self._decode(stream)
        try:
            first = next(self._blocks, None)
        except DamagedError as error:
            raise UnreadableError(str(error)) from error
        if self.truncated and first is None:
            raise UnreadableError("no sound in it can be decoded")
        self._blocks = chain([] if first is None else [first], self._blocks)
        if self._ogg_vorbis:
            length = _MAX_LENGTH if self.seconds is None else round(self.seconds * self.rate)
            self._blocks = _cut_tail(self._blocks, length)

    def chunks(self) -> Iterator[Samples]:
        """Blocks [n, C]; raises DamagedError."""
        seen = 0
        for block in self._blocks:
            seen += len(block)
            yield block
        if self.container in _DECLARING and self.seconds is not None:
            self.truncated = self.truncated or seen < (0.98 * self.seconds - 0.5) * self.rate

    def _decode(self, stream: av.AudioStream) -> Iterator[Samples]:
        """Decode until the end; only what follows the first frame counts as damage."""
        started, failure = False, ""
        for number, packet in enumerate(self._packets(stream)):
            if failure and started and packet.size:
                raise DamagedError(failure)
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                failure = _reason(error)
                continue
            if number == 0 and self._ogg_vorbis:
                continue  # it only primes the decoder; newer versions of FFmpeg let that be heard
            for frame in frames:
                if not started:
                    started, failure = True, ""
                    self.rate, self.channels = frame.sample_rate, frame.layout.nb_channels
                yield self._floats(frame)
        self.truncated = bool(failure)

    def _packets(self, stream: av.AudioStream) -> Iterator[av.Packet[av.AudioStream]]:
        try:
            yield from self._container.demux(stream)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DamagedError(_reason(error)) from error

    def _floats(self, frame: av.AudioFrame) -> Samples:
        """One frame -> [n, C] float32."""
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if (rate, channels) != (self.rate, self.channels):
            raise DamagedError(
                f"{self.rate} Hz and {self.channels} channels become {rate} Hz and {channels}"
            )
        if frame.format.is_planar and channels >= _PLANES:
            packed = av.AudioResampler(format=frame.format.packed).resample(frame)
            return np.concatenate([self._floats(part) for part in packed])
        samples = to_float(frame.to_ndarray())
        return samples.T if frame.format.is_planar else samples.reshape(-1, channels)

    def close(self) -> None:
        """Release the decoder."""
        self._container.close()


class _Window:
    """What FFmpeg sees of a file: a seek to nowhere fails without an exception.

    PyAV would print the exception on standard error, and a hostile header can cause it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = getattr(file, "name", "")
        self.read, self.tell, self.seekable = file.read, file.tell, file.seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new place, -1 where there is none."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


# Containers that state their duration, so that a missing end shows.
_DECLARING = frozenset({"mov", "mp4", "m4a", "3gp", "matroska", "webm", "mp3", "tta"})


def _seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """Duration by the header: exact, rounded or estimated, depending on the container."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _cut_tail(blocks: Iterator[Samples], length: int) -> Iterator[Samples]:
    """Leave out what is beyond `length`, unless it is more than the rest of a last block.

    A chained stream is longer than its header says: that tells the length of one link.
    """
    seen, tail = 0, list[Samples]()
    for block in blocks:
        kept = max(min(len(block), length - seen), 0)
        seen += len(block)
        tail.append(block[kept:])
        yield block[:kept]
        if seen > length + _VORBIS_BLOCK:
            yield from tail
            length = _MAX_LENGTH
            tail.clear()
        elif seen <= length:
            tail.clear()


def _reason(error: Exception) -> str:
    """What a library says, in one line without its name for the file."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).removeprefix("Error : ").rstrip(".") or "decoder failed"
