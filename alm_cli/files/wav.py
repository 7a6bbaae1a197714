"""WAV headers: a forgiving reader for files and pipes, and the header that we write."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from alm_cli.errors import FormatError
from alm_cli.files.pcm import ENCODINGS, RawFormat
from alm_cli.files.streams import ByteStream

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # after the two bytes of the code
_UNKNOWN = 0xFFFFFFFF
_MAX_CHUNKS = 4096  # before the sound: more is an attack, not a recording
_MAX_BODY = 64  # bytes of a chunk that are looked at
_ROOM = 2048  # bytes that headers, comments included, do not exceed

_ENCODINGS = {
    (_PCM, 1): "u8",
    (_PCM, 2): "s16le",
    (_PCM, 3): "s24le",
    (_PCM, 4): "s32le",
    (_FLOAT, 4): "f32le",
    (_FLOAT, 8): "f64le",
    (_ALAW, 1): "alaw",
    (_MULAW, 1): "mulaw",
}


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What stands before the sound: `encoding` is None for a codec that is not PCM.

    `size` is the number of bytes of sound, None when the header leaves it open.
    """

    encoding: str | None
    rate: int
    channels: int
    size: int | None


def is_wav(head: bytes) -> bool:
    """Whether the first 12 bytes of a file announce little-endian WAV or its 64-bit form."""
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def read_wav_header(stream: ByteStream) -> WavHeader:
    """Read up to the first byte of sound; raises FormatError where there is none."""
    riff_size = struct.unpack("<I", stream.exactly(12)[4:8])[0]
    form: tuple[str | None, int, int] | None = None
    wide_sizes: tuple[int, int] | None = None
    for _ in range(_MAX_CHUNKS):
        head = stream.exactly(8)
        if len(head) < 8:
            raise FormatError(f"{stream.name}: a WAV file that ends before its sound")
        tag, size = head[:4], struct.unpack("<I", head[4:])[0]
        if tag == b"data":
            if form is None:
                raise FormatError(f"{stream.name}: a WAV file without a description of its sound")
            if wide_sizes and size == _UNKNOWN:
                riff_size, size = wide_sizes
            return WavHeader(*form, _sound_size(size, riff_size, stream.position))
        body = stream.exactly(min(size, _MAX_BODY)) if tag in (b"fmt ", b"ds64") else b""
        stream.skip(size + size % 2 - len(body))
        if tag == b"fmt ":
            form = _sound_form(body, stream.name)
        elif tag == b"ds64" and len(body) >= 16:
            wide_sizes = struct.unpack("<QQ", body[:16])
    raise FormatError(f"{stream.name}: a WAV file with more than {_MAX_CHUNKS} chunks before sound")


def _sound_form(body: bytes, name: str) -> tuple[str | None, int, int]:
    """The `fmt ` chunk -> encoding, rate, channels."""
    if len(body) < 16:
        raise FormatError(f"{name}: a WAV file with a damaged description of its sound")
    code, channels, rate, _, align, bits = struct.unpack("<HHIIHH", body[:16])
    if code == _EXTENSIBLE and body[26:40] == _GUID_TAIL:
        code = struct.unpack("<H", body[24:26])[0]
    # The container of a sample counts (20 bits in 3 bytes are left-justified); writers that leave
    # the frame size at zero exist.
    whole = channels and align and align % channels == 0
    width = align // channels if whole else (bits + 7) // 8
    return _ENCODINGS.get((code, width)), rate, channels


def _sound_size(size: int, riff_size: int, position: int) -> int | None:
    """The declared size, or None for the placeholders that streaming writers leave.

    ffmpeg leaves 0xFFFFFFFF, sox 0x7FFFF000, arecord 0x80000000, crashed recorders zero. Zero is
    an empty recording only if the header says that something other than sound follows.
    """
    if size >= 1 << 63 or 0xFFFFF000 <= size <= _UNKNOWN or 0x7FFFF000 <= size <= 0x80000000:
        return None
    if size == 0 and not position < riff_size + 8 < 0x7FFFF000:
        return None
    return size


def needs_rf64(form: RawFormat, frames: int) -> bool:
    """Whether the sizes of `frames` samples per channel exceed 32 bits."""
    return frames * form.frame_bytes > _UNKNOWN - _ROOM


def wav_header(
    form: RawFormat, frames: int | None, *, rf64: bool = False, comment: str | None = None
) -> bytes:
    """The bytes before the sound, as long for any number of frames; None: length unknown.

    What does not fit 32 bits is written as RF64 if asked, else as unknown length, which readers
    take to reach to the end of the file. A comment stands before the sound, where streams have
    room for it.
    """
    described = _chunk(b"fmt ", _describe(form)) + (_information(comment) if comment else b"")
    if frames is not None and needs_rf64(form, frames) and not rf64:
        frames = None
    size = _UNKNOWN if frames is None else frames * form.frame_bytes
    total = 4 + len(described) + 8 + size + size % 2
    if rf64 and frames is not None:
        wide = _chunk(b"ds64", struct.pack("<QQQI", total + 36, size, frames, 0))
        opening = b"RF64" + struct.pack("<I", _UNKNOWN) + b"WAVE" + wide
        return opening + described + b"data" + struct.pack("<I", _UNKNOWN)
    opening = b"RIFF" + struct.pack("<I", _UNKNOWN if frames is None else total) + b"WAVE"
    return opening + described + b"data" + struct.pack("<I", size)


def _describe(form: RawFormat) -> bytes:
    """The body of the `fmt ` chunk; above two channels extensible, with no positions claimed."""
    kind, width = ENCODINGS[form.encoding]
    bits = 8 * width
    code = _FLOAT if "f" in kind else _PCM
    numbers = (form.channels, form.rate, form.rate * form.frame_bytes, form.frame_bytes, bits)
    if form.channels <= 2:
        # Floating point comes with the size of an extension, even of none: sox warns otherwise.
        return struct.pack("<HHIIHH", code, *numbers) + bytes(2 if code == _FLOAT else 0)
    extension = struct.pack("<HHIH", 22, bits, 0, code) + _GUID_TAIL
    return struct.pack("<HHIIHH", _EXTENSIBLE, *numbers) + extension


def _information(comment: str) -> bytes:
    """A LIST chunk of the kind INFO with one entry, that of a comment."""
    text = comment.encode() + b"\0"
    return _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", text + b"\0" * (len(text) % 2)))


def _chunk(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("<I", len(body)) + body
