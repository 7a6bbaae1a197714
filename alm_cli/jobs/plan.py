"""The items of a data set: from trees, patterns and manifests, one after the other, into a list.

Millions of them: none is opened or even looked up, and eight bytes of each stay in memory.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from typing import BinaryIO

from alm_cli.errors import FormatError, InputError
from alm_cli.jobs.sinks import flush, fresh_file
from alm_cli.jobs.sources import STDIN, fixed_part, walk

_PATHS = ("path", "audio_filepath")


@dataclass(frozen=True, slots=True)
class Entry:
    """A recording, or its part from `offset` seconds on, `duration` long (None: to the end).

    `named` says that the ID was given and not made from the path.
    """

    id: str
    path: str
    offset: float = 0.0
    duration: float | None = None
    named: bool = False

    @property
    def section(self) -> tuple[float, float | None] | None:
        """The part that is meant, None for the whole recording."""
        return (self.offset, self.duration) if self.offset or self.duration else None

    def line(self) -> str:
        """One line of JSON, as a manifest has it."""
        said: dict[str, object] = {"id": self.id, "path": self.path}
        if self.offset:
            said["offset"] = self.offset
        if self.duration is not None:
            said["duration"] = self.duration
        return json.dumps(said) + "\n"

    @classmethod
    def parse(cls, line: str) -> Entry:
        """The entry of a line of JSON. FormatError: it makes no sense."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise FormatError("not JSON") from None
        if not isinstance(said, dict):
            raise FormatError("not a JSON object")
        return _entry(said)


def find_entries(
    inputs: Sequence[str], *, suffixes: Collection[str], recursive: bool
) -> Iterator[Entry]:
    """The files named, and those with one of `suffixes` in folders and of patterns, sorted.

    What a folder gives is called by its path from there. InputError: nothing is found.
    """
    for text in inputs:
        if os.path.isdir(text):
            base, paths = text, walk(text, suffixes, recursive=recursive)
        elif not os.path.lexists(text) and glob.has_magic(text):
            base, paths = str(fixed_part(text)), _pattern(text, suffixes)
        else:
            base, paths = os.path.dirname(text), iter([text])
        first = next(paths, None)
        if first is None:
            hint = None if recursive else "--recursive looks into its folders too"
            raise InputError(f"{text}: no recordings found", hint=hint)
        for path in chain([first], paths):
            yield Entry(_stem(path.removeprefix(base).lstrip("/")), path)


def read_manifest(source: str, stdin: BinaryIO, *, plain: bool = False) -> Iterator[Entry]:
    """The items of a manifest: JSON lines, a table with tabs, or one path a line.

    JSON objects and the columns of a table are called `path` (or `audio_filepath`), `id`, `offset`
    and `duration` in seconds; all but the path may be missing, others are ignored. A `plain` list
    is one of paths whatever it looks like. InputError: a line makes no sense.
    """
    try:
        with nullcontext(stdin) if source == STDIN else open(source, "rb") as file:
            yield from _parsed(file, source, plain)
    except OSError as error:
        raise InputError(f"{source}: {error.strerror}", hint="check --manifest") from error


def write_plan(entries: Iterable[Entry], target: Path) -> int:
    """Write the entries as JSON lines, every ID made unique; their number.

    Of items whose paths give the same ID, all but the first get their number behind it.
    InputError: an ID that was given is that of another item.
    """
    seen = array("Q")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+", dir=target.parent, encoding="utf-8") as draft:
        for entry in entries:
            seen.append(_digest(entry.id))
            draft.write(("+" if entry.named else " ") + entry.line())
        draft.seek(0)
        repeated = _repeated(seen)
        with fresh_file(target) as path, path.open("w", encoding="utf-8") as file:
            lines = _distinct(draft, repeated, set(seen)) if repeated else draft
            file.writelines(line[1:] for line in lines)
            flush(file)
    return len(seen)


def _parsed(file: BinaryIO, source: str, plain: bool) -> Iterator[Entry]:
    parse: Callable[[str], Entry] | None = _plain if plain else None
    for number, raw in enumerate(file, 1):
        # File names are bytes on Linux, not necessarily UTF-8.
        line = os.fsdecode(raw).rstrip("\r\n")
        if not line.strip():
            continue
        if parse is None:
            columns = line.split("\t")
            if set(_PATHS) & set(columns):
                parse = _table(columns)
                continue
            parse = Entry.parse if line.startswith("{") else _plain
        try:
            yield parse(line)
        except FormatError as error:
            raise InputError(f"{source}, line {number}: {error.message}") from None


def _pattern(pattern: str, suffixes: Collection[str]) -> Iterator[str]:
    for path in sorted(glob.glob(pattern, recursive=True)):
        suffix = os.path.splitext(path)[1].lower()
        if (PurePath(pattern).suffix or suffix in suffixes) and not os.path.isdir(path):
            yield path


def _plain(line: str) -> Entry:
    return _entry({"path": line})


def _table(columns: Sequence[str]) -> Callable[[str], Entry]:
    """How to read the lines below a header."""

    def parse(line: str) -> Entry:
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise FormatError(f"{len(cells)} columns, not {len(columns)}")
        return _entry(dict(zip(columns, cells, strict=True)))

    return parse


def _entry(said: Mapping[str, object]) -> Entry:
    path = next((said[key] for key in _PATHS if said.get(key)), None)
    if not isinstance(path, str) or "\0" in path:
        raise FormatError(f"no {' or '.join(_PATHS)}")
    offset = _seconds("offset", said.get("offset")) or 0.0
    duration = _seconds("duration", said.get("duration"))
    if duration == 0:
        raise FormatError("duration is 0")
    id = said.get("id")
    if id is None or id == "":
        return Entry(_derived(path, offset), path, offset, duration)
    if not isinstance(id, (str, int)):
        raise FormatError("id is neither text nor a whole number")
    return Entry(str(id), path, offset, duration, named=True)


def _seconds(name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < 1e9:
        raise FormatError(f"{name} is {value!r:.40}, not a number of seconds")
    return number


def _derived(path: str, offset: float) -> str:
    """The ID of what has none: its path without the suffix, and the millisecond it begins at."""
    stem = _stem(os.path.normpath(path).lstrip("/"))
    return f"{stem}-{round(offset * 1000):08d}" if offset else stem


def _stem(path: str) -> str:
    while path.startswith("../"):
        path = path[3:]
    return os.path.splitext(path)[0]


def _digest(id: str) -> int:
    data = id.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _repeated(seen: array[int]) -> set[int]:
    """The digests that are there more than once."""
    import numpy as np

    ordered = np.sort(np.frombuffer(seen, np.uint64)) if seen else np.zeros(0, np.uint64)
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _distinct(lines: Iterable[str], repeated: set[int], taken: set[int]) -> Iterator[str]:
    """The lines with the IDs changed that an earlier one has; `taken` are the digests of all."""
    known: set[str] = set()
    for number, line in enumerate(lines):
        entry = Entry.parse(line[1:])
        if _digest(entry.id) in repeated:
            if entry.id in known:
                if line.startswith("+"):
                    raise InputError(f"the ID {entry.id!r} is that of two items")
                id = f"{entry.id}~{number}"
                while _digest(id) in taken:
                    id += "~"
                line = " " + replace(entry, id=id).line()
            known.add(entry.id)
        yield line
