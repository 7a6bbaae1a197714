"""Where samples go: PCM with or without a WAV header, and what libsndfile compresses."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

import numpy as np

from alm_cli.files.pcm import RawFormat, pack, quantise
from alm_cli.files.source import Samples
from alm_cli.files.streams import PIECE, write_all
from alm_cli.files.wav import needs_rf64, wav_header

# Channel orders of Vorbis and Opus (Vorbis I, section 4.3.9) out of that of WAV and FLAC.
_VORBIS_ORDER = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 4, 5, 3],
    7: [0, 2, 1, 5, 6, 4, 3],
    8: [0, 2, 1, 6, 7, 4, 5, 3],
}
_PIECE = 1 << 12  # samples per call: libsndfile overflows the stack in one huge Vorbis write


class Sink(Protocol):
    """One output being written."""

    def write(self, block: Samples) -> None:
        """Append [n, C] within -1..1 (PCM of floats: any); raises OSError."""

    def close(self, *, finish: bool) -> None:
        """Complete the output, or only release it."""


class PcmSink:
    """PCM, flushed with every block; with `wav` behind a header.

    A file of our own is `seekable`, and its header tells the true length at the end. A pipe has to
    be content with the promised length, or with a header that leaves it open.
    """

    def __init__(
        self,
        target: BinaryIO,
        form: RawFormat,
        *,
        wav: bool,
        length: int | None,
        seekable: bool,
        comment: str | None = None,
    ) -> None:
        self._target, self._form, self._wav, self._seekable = target, form, wav, seekable
        self._comment = comment
        self._promised, self._frames = length, 0
        self._rf64 = length is not None and needs_rf64(form, length)
        if wav:
            write_all(target, self._header(length))

    def write(self, block: Samples) -> None:
        """Append [n, C]."""
        self._frames += len(block)
        write_all(self._target, pack(block, self._form.encoding))
        self._target.flush()

    def close(self, *, finish: bool) -> None:
        """Pad the chunk to even length and correct the header."""
        if not (finish and self._wav):
            return
        odd = self._frames * self._form.frame_bytes % 2
        if odd and (self._seekable or self._promised is not None):
            write_all(self._target, b"\0")
        if self._seekable and self._frames != self._promised:
            self._target.seek(0)
            write_all(self._target, self._header(self._frames))
        self._target.flush()

    def _header(self, frames: int | None) -> bytes:
        return wav_header(self._form, frames, rf64=self._rf64, comment=self._comment)


@dataclass(frozen=True)
class _Kind:
    """How libsndfile is asked for a format; `level` is its compression, 0 best to 1 smallest."""

    container: str
    subtype: str
    level: float | None = None
    vorbis_order: bool = False


_KINDS = {
    "flac": _Kind("FLAC", "PCM_16"),
    "ogg": _Kind("OGG", "VORBIS", 0.2, vorbis_order=True),
    "opus": _Kind("OGG", "OPUS", vorbis_order=True),
    "mp3": _Kind("MP3", "MPEG_LAYER_III", 0.2),
}


class SoundfileSink:
    """FLAC, Ogg Vorbis, Opus or MP3, through a temporary file where the target is a pipe."""

    def __init__(
        self,
        target: BinaryIO,
        format: str,
        rate: int,
        channels: int,
        *,
        seekable: bool,
        comment: str | None = None,
    ) -> None:
        import soundfile as sf

        self._target, self._kind = target, _KINDS[format]
        self._order = _VORBIS_ORDER.get(channels) if self._kind.vorbis_order else None
        self._rest = np.zeros((0, channels), np.float32)
        self._started = self._kind.subtype == "VORBIS"  # the one that can be empty
        with ExitStack() as resources:
            self._place = target
            if not seekable:
                copy = resources.enter_context(tempfile.TemporaryFile(buffering=0))
                self._place = cast(BinaryIO, copy)
            self._encoder = sf.SoundFile(
                self._place.fileno(),
                "w",
                samplerate=rate,
                channels=channels,
                format=self._kind.container,
                subtype=self._kind.subtype,
                compression_level=self._kind.level,
                closefd=False,
            )
            if comment:
                self._encoder.comment = comment
            self._resources = resources.pop_all()

    def write(self, block: Samples) -> None:
        """Append [n, C]; pieces of one size make the result independent of the blocks."""
        block = np.concatenate([self._rest, block[:, self._order] if self._order else block])
        whole = len(block) - len(block) % _PIECE
        for start in range(0, whole, _PIECE):
            self._put(block[start : start + _PIECE])
        self._rest = block[whole:]

    def _put(self, piece: Samples) -> None:
        import soundfile as sf

        self._started = True
        # libsndfile would scale by 32767 and round its own way.
        flac = self._kind.container == "FLAC"
        try:
            self._encoder.write(quantise(piece, 16).astype(np.int16) if flac else piece)
        except (sf.SoundFileError, AssertionError) as error:  # the latter where a disk is full
            raise OSError(f"the encoder stopped {error}".rstrip()) from error

    def close(self, *, finish: bool) -> None:
        """Complete the file and hand over what waited for the pipe."""
        with self._resources:
            if finish and (len(self._rest) or not self._started):
                # Without a sample there would be no header either: one of silence instead.
                silence = np.zeros((1, self._rest.shape[1]), np.float32)
                self._put(self._rest if len(self._rest) else silence)
            self._encoder.close()
            if finish and self._place is not self._target:
                self._place.seek(0)
                while data := self._place.read(PIECE):
                    write_all(self._target, data)
                self._target.flush()
