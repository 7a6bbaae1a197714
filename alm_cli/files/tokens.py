"""The token file: what docs/token-file.md specifies, written and read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError, InputError
from alm_cli.files.container import Header, Source
from alm_cli.files.entropy import unsqueeze
from alm_cli.files.packing import unpack
from alm_cli.files.priors import prior_named
from alm_cli.files.segment import FLOATS, Pack, Segment, describe, pieces
from alm_cli.values import Latents, Origin, Tokens

TOKEN_SUFFIX = ".alm"
_ONE = "keep one recording in a token file"
_DAMAGED = "the file is damaged or incomplete: copy it again or encode the recording again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """What the headers of a token file say: `codebooks` is 0 for latents, `dimensions` for codes.

    The bytes of `file_bytes` that are neither payload nor side information are headers. `pack` is
    that of the last segment.
    """

    kind: str
    origin: Origin
    program: str
    streams: int
    codebooks: int
    dimensions: int
    frames: int
    segments: int
    payload_bytes: int
    side_bytes: int
    file_bytes: int
    pack: Pack = "bits"


def to_bytes(value: Tokens | Latents, pack: Pack = "bits") -> bytes:
    """One segment as bytes. InputError: the format cannot hold this value.

    With "entropy" codes take as few bytes as a model of them can foresee, some time, and never
    more bytes than with "bits".
    """
    return b"".join(pieces(value, pack))


def write_tokens(
    target: Path | str | BinaryIO, value: Tokens | Latents, *, pack: Pack = "bits"
) -> None:
    """Write one segment: a path appears at once and whole, a buffered stream is flushed.

    `pack` as in `to_bytes`. InputError: the format cannot hold this value, or the path cannot be
    written.
    """
    blocks = pieces(value, pack)
    if isinstance(target, (Path, str)):
        _replace(Path(target), blocks)
    else:
        target.writelines(blocks)
        target.flush()


def iter_tokens(stream: BinaryIO, *, name: str = "<stdin>") -> Iterator[Tokens | Latents]:
    """Each segment as soon as its last byte is there; streams may follow one another.

    FormatError: a segment is invalid, missing or of another stream, or the end comes too early.
    """
    with _opened(stream, name) as source:
        joint = _Stream(several=True)
        while (header := _next(source, joint)) is not None:
            parts = _Parts()
            parts.add(joint.last, source.data(header))
            yield parts.join(joint.last, joint.last.origin)


def read_tokens(path: Path | str | BinaryIO) -> Tokens | Latents:
    """The segments of one stream joined: codes [S, K, F] int32, or latents [S, D, F] float32.

    FormatError: as in `iter_tokens`, or more than one stream. InputError: the path is unreadable.
    """
    with _opened(path) as source:
        joint, parts = _Stream(), _Parts()
        while (header := _next(source, joint)) is not None:
            parts.add(joint.last, source.data(header))
        return parts.join(joint.last, joint.origin)


def probe_tokens(path: Path | str) -> TokenInfo:
    """What the headers of one stream say, without reading or verifying its data.

    FormatError, InputError: as in `read_tokens`, as far as headers and sizes can tell.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a regular file")
    with _opened(path) as source:
        joint, payload, side = _Stream(), 0, 0
        while (header := _next(source, joint)) is not None:
            size = joint.last.payload.end - joint.last.payload.begin
            payload += size
            side += header.data_bytes - size
            source.skip(header)
        last = joint.last
        return TokenInfo(
            kind=last.kind,
            origin=joint.origin,
            program=last.program,
            streams=last.streams,
            codebooks=len(last.origin.vocabularies),
            dimensions=0 if last.kind == "tokens" else last.rows,
            frames=joint.frames,
            segments=last.origin.segment + 1,
            payload_bytes=payload,
            side_bytes=side,
            file_bytes=path.stat().st_size,
            pack=last.pack,
        )


def narrow(tokens: Tokens, codebooks: int) -> Tokens:
    """The first `codebooks` codebooks of `tokens`. InputError: it has fewer, or none is asked."""
    if not 1 <= codebooks <= tokens.codebooks:
        raise InputError(f"{codebooks} codebooks asked of tokens that have {tokens.codebooks}")
    vocabularies, strides = tokens.origin.vocabularies, tokens.origin.strides
    origin = replace(
        tokens.origin, vocabularies=vocabularies[:codebooks], strides=strides[:codebooks]
    )
    return replace(tokens, codes=tokens.codes[:, :codebooks], origin=origin)


class _Stream:
    """The segments so far: which one may follow, and what they add up to."""

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._last: Segment | None = None
        self.frames = 0
        self._length = 0

    @property
    def last(self) -> Segment:
        """The newest segment; there is one as soon as `_next` has returned."""
        assert self._last is not None
        return self._last

    @property
    def place(self) -> str:
        """Where in the stream we are, for errors about what comes next."""
        return f"after segment {self._last.origin.segment}: " if self._last else ""

    @property
    def origin(self) -> Origin:
        """The origin of the whole stream, as far as its segments tell."""
        last = self.last.origin
        # Digests are of the samples of one segment; those of several make none of the whole.
        digest = "" if last.segment else last.source_sha256
        return replace(last, source_length=self._length, source_sha256=digest, segment=0)

    def add(self, segment: Segment) -> None:
        """Accept the next segment. FormatError: another one is due."""
        before = self._last
        if before is not None and before.origin.final:
            if not self._several:
                raise FormatError("holds more than one recording", _ONE)
            before, self.frames, self._length = None, 0, 0
        due = 0 if before is None else before.origin.segment + 1
        number = segment.origin.segment
        if number != due:
            raise FormatError(f"segment {number} stands where segment {due} should")
        if before is not None and before.kinship() != segment.kinship():
            raise FormatError(f"segment {number} belongs to another stream")
        self.frames += segment.frames
        self._length += segment.origin.source_length
        if segment.origin.final:
            self._check_length(segment.origin)
        self._last = segment

    def end(self) -> None:
        """Accept the end. FormatError: more segments are due."""
        if self._last is None:
            raise FormatError("holds no tokens: it is empty")
        if not self._last.origin.final:
            number = self._last.origin.segment
            raise FormatError(f"ends after segment {number}, which is not the last")

    def _check_length(self, origin: Origin) -> None:
        # A decoder cuts or fills to this length, so it must not be a lie of any size; one second
        # is left for codecs that drop an incomplete last window.
        most = (self.frames * origin.hop + origin.rate) * origin.source_rate // origin.rate
        if self._length > most:
            raise FormatError(f"{self.frames} frames cannot hold {self._length} samples")


class _Parts:
    """The data of segments, kept packed until all are there: unpacked codes exist only once."""

    def __init__(self) -> None:
        self._blocks: list[tuple[Segment, memoryview]] = []
        self._sides: dict[str, list[NDArray[np.float32]]] = {}

    def add(self, segment: Segment, data: memoryview) -> None:
        """Keep the data of the next segment."""
        self._blocks.append((segment, data[segment.payload.begin : segment.payload.end]))
        for name, entry in segment.sides.items():
            array = np.frombuffer(data[entry.begin : entry.end], FLOATS["F32"])
            self._sides.setdefault(name, []).append(array.reshape(entry.shape))

    def join(self, like: Segment, origin: Origin) -> Tokens | Latents:
        """All segments as one value. FormatError: a code or a number is impossible."""
        frames = sum(segment.frames for segment, _ in self._blocks)
        side = {
            name: _finite(np.concatenate(arrays, dtype=np.float32))
            for name, arrays in self._sides.items()
        }
        if like.kind == "tokens":
            codes = np.empty((like.streams, like.rows, frames), np.int32)
            for start, segment, block in self._placed():
                _unpack(segment, block, codes, slice(start, start + segment.frames))
            return Tokens(codes, origin, side)
        values = np.empty((like.streams, like.rows, frames), np.float32)
        for start, segment, block in self._placed():
            part = np.frombuffer(block, FLOATS[like.payload.dtype])
            shaped = part.reshape(segment.payload.shape)
            values[:, :, start : start + segment.frames] = shaped
        return Latents(_finite(values), origin, side)

    def _placed(self) -> Iterator[tuple[int, Segment, memoryview]]:
        """First frame, header and data of each segment."""
        start = 0
        for segment, block in self._blocks:
            yield start, segment, block
            start += segment.frames


def _unpack(segment: Segment, block: memoryview, codes: NDArray[np.int32], frames: slice) -> None:
    """The codes of a segment -> those frames of codes [S, K, F], filled in place."""
    sizes, strides = segment.origin.vocabularies, segment.origin.strides
    if segment.pack == "bits":
        rows = codes.reshape(segment.streams * segment.rows, codes.shape[2])
        unpack(block, sizes * segment.streams, rows[:, frames], strides * segment.streams)
        return
    prior = prior_named(segment.prior) if segment.prior else None
    if prior is not None and (strides or not prior.suits(sizes)):
        raise FormatError("entropy-coded with the prior of other codebooks")
    unsqueeze(block, sizes, strides or (1,) * len(sizes), prior, codes[:, :, frames])


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise FormatError("numbers that are infinite or not numbers")
    return values


def _next(source: Source, joint: _Stream) -> Header | None:
    """The next segment's header, added to the stream, or None at a rightful end."""
    try:
        header = source.header()
        if header is not None:
            joint.add(describe(header))
            return header
    except FormatError as error:
        raise FormatError(f"{joint.place}{error.message}", error.hint) from None
    joint.end()
    return None


def _replace(target: Path, blocks: list[bytes]) -> None:
    """Write beside `target` and rename, so that no one ever sees a part of a file."""
    final = Path(os.path.realpath(target))
    # A device or a named pipe is written through, never replaced by a file.
    through = final.exists() and not final.is_file()
    written = final if through else final.parent / f".alm-{secrets.token_hex(8)}.part"
    try:
        with open(written, "wb" if through else "xb") as file:
            file.writelines(blocks)
        if not through:
            os.replace(written, final)
    except BaseException as error:
        if not through:
            with suppress(OSError):
                written.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{target}: cannot be written ({error.strerror})") from error
        raise


@contextmanager
def _opened(origin: Path | str | BinaryIO, name: str | None = None) -> Iterator[Source]:
    """A source of segments whose errors say its name; a path is closed, a stream left open."""
    given = str(origin) if isinstance(origin, (Path, str)) else getattr(origin, "name", None)
    name = name or (given if isinstance(given, str) else "<stream>")
    try:
        if isinstance(origin, (Path, str)):
            with open(origin, "rb") as file:
                yield Source(file)
        else:
            yield Source(origin)
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}", error.hint or _DAMAGED) from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
