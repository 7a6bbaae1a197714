"""Byte streams that may be pipes: take what has arrived, look ahead, keep a copy on disk."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from alm_cli.errors import InputError

PIECE = 1 << 16  # bytes per system call: bounds memory and latency


class ByteStream:
    """A stream read forward only; `position` counts the bytes taken, `name` is for messages."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        # `read` of a buffered stream waits for all it was asked for, `read1` gives what is there.
        self._take = getattr(stream, "read1", stream.read)
        self._ahead = b""
        self.name = name
        self.position = 0

    def read(self, size: int) -> bytes:
        """At least one and at most `size` bytes; none at the end. Raises InputError."""
        data = self._ahead[:size] or self._fetch(size)
        self._ahead = self._ahead[len(data) :]
        self.position += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        parts = bytearray()
        while len(parts) < size and (data := self.read(min(size - len(parts), PIECE))):
            parts += data
        return bytes(parts)

    def skip(self, size: int) -> None:
        """Leave out `size` bytes without keeping them."""
        while size > 0 and (data := self.read(min(size, PIECE))):
            size -= len(data)

    def peek(self, size: int) -> bytes:
        """The next `size` bytes (fewer only at the end), which stay in the stream."""
        while len(self._ahead) < size and (data := self._fetch(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def _fetch(self, size: int) -> bytes:
        try:
            return bytes(self._take(size) or b"")
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error})") from error


def write_all(target: BinaryIO, data: bytes) -> None:
    """Write all of `data`, also where the target takes it in parts (pipes without buffer)."""
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]


def spool(stream: ByteStream) -> BinaryIO:
    """The rest of `stream` as a temporary file without a name; raises InputError."""
    with ExitStack() as unfinished:
        copy = unfinished.enter_context(tempfile.TemporaryFile(buffering=0))
        try:
            while data := stream.read(PIECE):
                write_all(cast(BinaryIO, copy), data)
        except OSError as error:
            raise InputError(
                f"{stream.name}: cannot be kept on disk ({error.strerror or error})",
                hint="make room in the temporary folder, or pipe WAV, which needs no copy",
            ) from error
        unfinished.pop_all()
        return cast(BinaryIO, copy)


def name_of(place: Path | BinaryIO) -> str:
    """What messages call a file or pipe."""
    name = place if isinstance(place, Path) else getattr(place, "name", None)
    return str(name) if isinstance(name, str | Path) else "<pipe>"


def open_file(path: Path, mode: str) -> BinaryIO:
    """Open without a buffer, so that reading by descriptor and by object agree."""
    try:
        return cast(BinaryIO, open(path, mode, buffering=0))
    except FileNotFoundError as error:
        lacking = "there is no such file" if mode == "rb" else "there is no such folder"
        raise InputError(f"{path}: {lacking}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not a recording") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        verb = "read" if mode == "rb" else "written"
        raise InputError(f"{path}: cannot be {verb} ({why})") from error
