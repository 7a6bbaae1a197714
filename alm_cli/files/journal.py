"""The journal of a transcript in the making: what is final is on disk before the next is begun.

A line for each segment, each with a checksum that runs on from the line before it, and a first
line that says of what recording, by which model and with which options. A program that is killed
leaves it behind, torn within the last line at most.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from alm_cli.errors import FormatError, InputError
from alm_cli.files.transcripts import VERSION, from_record, parse_line, to_record
from alm_cli.values import Segment

# A segment of Whisper has some kilobytes; a line beyond this is not ours.
_LONGEST_LINE = 1 << 22
_DIGITS = 8


def journal_path(target: Path) -> Path:
    """Where the journal of what will be written to `target` lies: hidden, beside it."""
    # Cut, because a name may be at most 255 bytes long; the checksum keeps it unique.
    word = f"{target.stem[:40]}-{zlib.crc32(os.fsencode(target.name)):08x}"
    return target.with_name(f".{word}.journal")


class Journal:
    """A journal that this process alone writes; a context manager, whose end leaves it there.

    `asked` says what must be the same for the segments found in it to be of use; `resume` whether
    they are wanted. `count` segments are in it. InputError: another process is at it, or it cannot
    be written.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], *, resume: bool = True) -> None:
        self._path = path
        try:
            self._file = _locked(path)
            self._head = _line({"asked": asked}, 0)
            self.count, size, self._sum = self._valid() if resume else (0, 0, 0)
            if not size:
                self._begin_anew()
            else:
                os.ftruncate(self._file, size)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror})", hint="choose another -o"
            ) from error

    def segments(self) -> Iterator[Segment]:
        """All segments, from the first."""
        for record, _, _ in self._records():
            yield from_record(record)

    def append(self, segment: Segment) -> None:
        """One more segment, which outlives the process from now on."""
        self._append(_line(to_record(segment), self._sum))
        self.count += 1

    def keep(self, count: int) -> None:
        """Forget all but the first `count` segments."""
        size, checksum = len(self._head), _checksum(self._head)
        for number, (_, end, checksum_there) in enumerate(self._records(), 1):
            if number <= count:
                size, checksum = end, checksum_there
        os.ftruncate(self._file, size)
        self.count, self._sum = min(self.count, count), checksum

    def remove(self) -> None:
        """Take it away: it has served."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_anew(self) -> None:
        # Never by emptying what is there: it may be another name of somebody's file.
        self._path.unlink(missing_ok=True)
        before, self._file = self._file, _locked(self._path)
        os.close(before)
        self._sum = 0
        self._append(self._head)

    def _append(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]
        self._sum = _checksum(line)

    def _valid(self) -> tuple[int, int, int]:
        """How many segments can be trusted, up to which byte, and the checksum up to there.

        None and 0 bytes where it is of something else: another model, say.
        """
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            if file.read(len(self._head)) != self._head:
                return 0, 0, 0
        count, size, checksum = 0, len(self._head), _checksum(self._head)
        try:
            for record, end, checksum_there in self._records():
                from_record(record)
                count, size, checksum = count + 1, end, checksum_there
        except FormatError:
            pass
        return count, size, checksum

    def _records(self) -> Iterator[tuple[dict[str, Any], int, int]]:
        """What each line after the first says, where it ends, and the checksum up to there.

        It ends where the file does, or a checksum is wrong.
        """
        size, checksum = len(self._head), _checksum(self._head)
        # A handle of its own would not do: it has its place in the file from this one.
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(size)
            while line := file.readline(_LONGEST_LINE):
                told = line[_DIGITS + 1 :]
                if not line.endswith(b"\n") or line != _signed(told, checksum):
                    return
                size, checksum = size + len(line), _checksum(line)
                yield parse_line(told), size, checksum


def _locked(path: Path) -> int:
    """The file, made if need be, that no other process has. OSError, InputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            # Not through a link that somebody laid there.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            path.unlink(missing_ok=True)
            continue
        try:
            # Of the open file, not of the process: reading it anew does not lose it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise InputError(f"{path}: another process is writing this transcript") from None
        except OSError:
            pass  # a file system without locks
        # Whoever had it may have taken it away meanwhile; and it may be a pipe, or the like.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False)):
                if path.is_file():
                    return file
                path.unlink()
        os.close(file)


def _line(record: Mapping[str, Any], checksum: int) -> bytes:
    """A line of the journal; `checksum` is that of all before it."""
    return _signed(json.dumps({"version": VERSION, **record}).encode() + b"\n", checksum)


def _signed(told: bytes, checksum: int) -> bytes:
    return b"%08x %b" % (zlib.crc32(told, checksum), told)


def _checksum(line: bytes) -> int:
    return int(line[:_DIGITS], 16)
