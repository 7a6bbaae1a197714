"""One shard in the making: whatever ends the process, and whenever, nothing finished is lost.

Items are appended to a hidden tar, and after each a row to a hidden index, in the order of the
items. Going on means to believe every row whose bytes are there and right (so nothing has to be
forced to the disk before the end), and to cut off the rest. When the last item is there, both
files are forced to the disk and renamed, first the tar, then the index: a shard that has an index
is finished.

To try failed items again, the shard is set aside, and a new one is made from it that takes over
what is finished.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from alm_cli.errors import FormatError
from alm_cli.files.shards import (
    END,
    FAILED,
    INDEX_SUFFIX,
    SHARD_SUFFIX,
    Row,
    member_header,
    padding,
)
from alm_cli.files.streams import write_all
from alm_cli.jobs.sinks import flush


class Shard:
    """Shard `number` of the data set in `folder`, for so many items.

    `done` and `failed` count what earlier processes have left, once it was begun.
    """

    def __init__(self, folder: Path, number: int, items: int) -> None:
        self.number, self.items = number, items
        self.done = self.failed = 0
        self.tar, self.index = (folder / f"{name_of(number)}{end}" for end in _ENDS)
        self._hidden = tuple(folder / f".{name_of(number)}{end}.part" for end in _ENDS)
        self._aside = tuple(folder / f".{name_of(number)}{end}.old" for end in _ENDS)
        self._files: tuple[BinaryIO, ...] = ()
        self._end = self._position = 0
        self._last: int | None = None
        self._kept: list[Row] = []

    @property
    def finished(self) -> bool:
        """Whether it is in its place."""
        return self.index.exists() and self.tar.exists()

    def written(self) -> int:
        """Items of which the unfinished index speaks."""
        return min(self.items, _lines(self._hidden[1])[0]) if self._hidden[1].exists() else 0

    def begin(self, *, retry: bool) -> Sequence[int]:
        """The positions of the items to bring, in order; of none, and the shard is finished.

        With `retry`, those that have failed before this are among them.
        """
        if self.finished and not (retry and _lines(self.index)[1]):
            _remove(*self._hidden, *self._aside)
            items, self.failed = _lines(self.index)
            self.done = items - self.failed
            return ()
        self._set_aside(retry)
        if self.tar.exists() and not self._hidden[0].exists():
            os.replace(self.tar, self._hidden[0])  # it ended between the two renames
        if self._aside[1].exists():
            self._kept = [row for row, _, _ in _whole(*self._aside)]
        self._resume()
        todo: Sequence[int] = range(self._position, self.items)
        if self._kept:
            todo = [position for position in todo if not self._is_kept(position)]
        self.done += sum(map(self._is_kept, range(self._position, len(self._kept))))
        if not todo:
            self._finish()
            return ()
        self._last = todo[-1]
        return todo

    def put(self, position: int, row: Row, data: bytes = b"") -> bool:
        """Add what became of the item at `position`; whether it was the last, and all is finished.

        Positions come in the order that `begin` gave.
        """
        self._keep(position)
        self._append(row, data)
        if position == self._last:
            self._finish()
        return position == self._last

    def close(self) -> None:
        """Leave it as it is."""
        for file in self._files:
            file.close()
        self._files = ()

    def _set_aside(self, retry: bool) -> None:
        """Make room for a new shard that takes over what this one has finished."""
        if self.finished:
            _remove(*self._hidden, *self._aside)
            os.replace(self.index, self._aside[1])
        elif retry and not self._aside[1].exists():
            begun = self._hidden[1]
            if begun.exists() and _lines(begun)[1]:
                os.replace(begun, self._aside[1])
        # The index went first; a process may have ended before its tar followed.
        if self._aside[1].exists() and not self._aside[0].exists():
            source = self.tar if self.tar.exists() else self._hidden[0]
            if source.exists():
                os.replace(source, self._aside[0])
            else:
                _remove(self._aside[1])

    def _resume(self) -> None:
        """Open the hidden files, cut to the rows that are whole."""
        self._files = tuple(_open(path) for path in self._hidden)
        written = 0
        for row, end, size in _whole(*self._hidden):
            self._end, written = end, size
            self._position += 1
            self.failed += row.status == "failed"
            self.done += row.status == "done"
        for file, size in zip(self._files, (self._end, written), strict=True):
            file.truncate(size)
            file.seek(size)

    def _is_kept(self, position: int) -> bool:
        return position < len(self._kept) and self._kept[position].status == "done"

    def _keep(self, position: int) -> None:
        """Take over the items before `position`."""
        if self._position == position:
            return
        with self._aside[0].open("rb") as file:
            while self._position < position:
                row = self._kept[self._position]
                file.seek(row.offset or 0)
                self._append(row, file.read(row.bytes or 0))

    def _append(self, row: Row, data: bytes) -> None:
        tar, index = self._files
        if row.status == "done":
            header = member_header(row.id, len(data))
            row = replace(
                row, offset=self._end + len(header), bytes=len(data), crc32=zlib.crc32(data)
            )
            member = header + data + padding(len(data))
            write_all(tar, member)
            self._end += len(member)
        write_all(index, row.line().encode())
        self._position += 1

    def _finish(self) -> None:
        self._keep(self.items)
        write_all(self._files[0], END)
        for file in self._files:
            flush(file)
        self.close()
        os.replace(self._hidden[0], self.tar)
        os.replace(self._hidden[1], self.index)
        _sync_folder(self.tar.parent)
        _remove(*self._aside)


_ENDS = (SHARD_SUFFIX, INDEX_SUFFIX)


def name_of(number: int) -> str:
    """What a shard is called, in WebDataset's way: `shard-{000000..000099}.tar` are a hundred."""
    return f"shard-{number:06d}"


def _whole(tar: Path, index: Path) -> Iterator[tuple[Row, int, int]]:
    """The rows up to the first that is torn or not in the tar, and the bytes of both up to there.

    A machine that lost its power may have written a row, but not what the row speaks of.
    """
    end = written = 0
    with _open(tar) as data, index.open("rb") as lines:
        for line in lines:
            try:
                row = Row.parse(line.decode())
            except (FormatError, UnicodeDecodeError):
                return
            if not line.endswith(b"\n"):
                return
            if row.status == "done":
                member = _member(data, end, row)
                if not member:
                    return
                end += member
            written += len(line)
            yield row, end, written


def _member(tar: BinaryIO, place: int, row: Row) -> int:
    """The size of the member at `place` when it is that of `row` and whole, else 0."""
    assert row.bytes is not None
    header = member_header(row.id, row.bytes)
    size = len(header) + row.bytes + len(padding(row.bytes))
    tar.seek(place)
    found = tar.read(size)
    content = found[len(header) : len(header) + row.bytes]
    right = found.startswith(header) and zlib.crc32(content) == row.crc32
    return size if right and len(found) == size and row.offset == place + len(header) else 0


def _lines(index: Path) -> tuple[int, int]:
    """The rows of an index, and how many of them failed."""
    rows = failed = 0
    with index.open("rb") as file:
        for line in file:
            rows += 1
            failed += FAILED in line
    return rows, failed


def _open(path: Path) -> BinaryIO:
    """For reading and writing, without a buffer: what was written survives the process."""
    return cast(BinaryIO, open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0))


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
