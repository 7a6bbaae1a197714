"""Files, folders, globs, lists and standard input become a list of items."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from alm_cli.errors import AlmError, InputError, UsageError

STDIN = "-"


@dataclass(frozen=True)
class Item:
    """One input: a file, or standard input when `path` is None.

    `place` is where it lies below the folder or pattern it was found by (mirrored under `-o DIR`);
    `size` is in bytes, 0 when unknown; `named` is false for what a folder or a pattern gave;
    `problem` says why it cannot be read at all; `section` is the part that is meant, as the second
    it begins at and the seconds it lasts (None: to the end). `label` is for what has no path.
    """

    path: Path | None
    place: PurePath
    size: int = 0
    named: bool = True
    problem: AlmError | None = None
    section: tuple[float, float | None] | None = None
    label: str = STDIN

    @property
    def name(self) -> str:
        """What to call it before people."""
        return self.label if self.path is None else str(self.path)


def find_items(
    inputs: Sequence[str],
    *,
    suffixes: Collection[str],
    recursive: bool = False,
    listed: Iterable[str] = (),
) -> list[Item]:
    """Every input once, in the order given, folders sorted; what is missing becomes an item too.

    Folders and patterns give the files with one of `suffixes` (lower case, with the dot), a file
    named outright is taken as it is. `listed` are further paths, mirrored as they are written.
    """
    if list(inputs).count(STDIN) > 1:
        raise UsageError("standard input (-) is given twice")
    found: dict[str, Item] = {}
    for text in inputs:
        for item in _expand(text, suffixes, recursive):
            found.setdefault(_identity(item), item)
    for text in listed:
        item = _file(Path(text), _as_written(text))
        found.setdefault(_identity(item), item)
    return list(found.values())


def read_list(source: str, stdin: BinaryIO) -> list[str]:
    """The paths in a list file, one a line; `-` reads them from `stdin`."""
    try:
        data = stdin.read() if source == STDIN else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: {error.strerror}", hint="check --from-list") from error
    # File names are bytes on Linux, not necessarily UTF-8.
    lines = os.fsdecode(data).split("\n")
    return [line.rstrip("\r") for line in lines if line.strip()]


def _expand(text: str, suffixes: Collection[str], recursive: bool) -> Iterator[Item]:
    path = Path(text)
    if text == STDIN:
        yield Item(None, PurePath("stdin"))
    elif path.is_dir():
        yield from _folder(path, suffixes, recursive)
    elif not os.path.lexists(path) and glob.has_magic(text):
        yield from _pattern(text, suffixes, recursive)
    else:
        yield _file(path, PurePath(path.name))


def walk(
    folder: str,
    suffixes: Collection[str],
    *,
    recursive: bool,
    unreadable: Callable[[OSError], None] | None = None,
) -> Iterator[str]:
    """The files with one of `suffixes`, sorted: those of a folder before those of its folders.

    Only one folder's names are held at a time, and no file is looked up. Without `unreadable`, a
    folder that cannot be read raises InputError.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            files, folders = _listing(here, suffixes)
        except OSError as error:
            if unreadable is None:
                raise InputError(f"{here}: {error.strerror}") from error
            unreadable(error)
            continue
        yield from sorted(files)
        if recursive:
            waiting += sorted(folders, reverse=True)


def fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard."""
    parts = []
    for part in PurePath(pattern).parent.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _listing(folder: str, suffixes: Collection[str]) -> tuple[list[str], list[str]]:
    """The paths of the files that count, and of the folders, symbolic links to folders aside."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if not entry.is_symlink():
                    folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in suffixes:
                files.append(entry.path)
    return files, folders


def _folder(folder: Path, suffixes: Collection[str], recursive: bool) -> Iterator[Item]:
    problems: list[Item] = []

    def unreadable(error: OSError) -> None:
        where = Path(error.filename or folder)
        problem = InputError(f"{where}: {error.strerror}")
        problems.append(Item(where, PurePath(where.name), problem=problem))

    empty = True
    paths = walk(str(folder), suffixes, recursive=recursive, unreadable=unreadable)
    for path in map(Path, paths):
        empty = False
        yield _file(path, path.relative_to(folder), named=False)
    yield from problems
    if empty and not problems:
        hint = None if recursive else "--recursive looks into its folders too"
        problem = InputError(f"{folder}: no {_kinds(suffixes)} files in this folder", hint=hint)
        yield Item(folder, PurePath(folder.name), problem=problem)


def _pattern(text: str, suffixes: Collection[str], recursive: bool) -> Iterator[Item]:
    base, empty = fixed_part(text), True
    for path in map(Path, sorted(glob.glob(text, recursive=True))):
        if path.is_dir():
            if "**" in text:
                continue
            yield from _folder(path, suffixes, recursive)
        elif PurePath(text).suffix or path.suffix.lower() in suffixes:
            yield _file(path, path.relative_to(base), named=False)
        else:
            continue
        empty = False
    if empty:
        problem = InputError(f"{text}: no file matches this pattern")
        yield Item(Path(text), PurePath("pattern"), problem=problem)


def _file(path: Path, place: PurePath, *, named: bool = True) -> Item:
    try:
        size, problem = path.stat().st_size, None
        if path.is_dir():
            problem = InputError(f"{path}: is a folder, not a file")
    except OSError as error:
        size, problem = 0, InputError(f"{path}: {error.strerror}")
    return Item(path, place, size, named, problem)


def _as_written(text: str) -> PurePath:
    """Relative paths keep their folders, those that lead elsewhere only their name."""
    path = PurePath(text)
    return PurePath(path.name) if path.is_absolute() or ".." in path.parts else path


def _identity(item: Item) -> str:
    return STDIN if item.path is None else os.path.abspath(item.path)


def _kinds(suffixes: Collection[str]) -> str:
    return next(iter(suffixes)) if len(suffixes) == 1 else "audio"
