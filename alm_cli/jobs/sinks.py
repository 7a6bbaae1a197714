"""Where results go: output names without collisions, atomic files, standard output."""

from __future__ import annotations

import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, Any, BinaryIO, Literal, TypeGuard

from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.jobs.sources import Item

STDOUT = "-"
Existing = Literal["refuse", "skip", "overwrite"]

# Another machine's processes cannot be asked whether they live; a day is longer than any write.
_STALE_S = 86_400.0
_HOST = f"{zlib.crc32(os.uname().nodename.encode()):08x}"
_TEMPORARY = re.compile(r"^\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.part$")


def plan_targets(items: Sequence[Item], output: str | None, suffix: str) -> list[Path | None]:
    """One output path per item, None for standard output; never two alike.

    Without `output` the result lies beside its input, with `suffix` in place of its own; a folder
    mirrors the tree; a file or `-` takes one item. Inputs that would meet in one output keep
    their full name (`a.wav.alm`), and if that is not enough their whole path.
    """
    if output == STDOUT or (output is None and all(item.path is None for item in items)):
        return [None] * _only_one(items, "standard output")
    if output is not None and not _is_folder(items, output):
        return [Path(output)] * _only_one(items, output)
    folder = None if output is None else Path(output)
    names = _distinct(
        [_beside(item, folder, item.place.with_suffix(suffix)) for item in items],
        [_beside(item, folder, _append(item.place, suffix)) for item in items],
        [_beside(item, folder, _append(_whole(item), suffix)) for item in items],
    )
    return list(names)


def occupied(target: Path, inputs: frozenset[str], existing: Existing) -> str | None:
    """Why `target` must not be written, or None; special files are never occupied."""
    if os.path.realpath(target) in inputs:
        return f"{target}: is an input, and inputs are never overwritten"
    if target.is_dir():
        return f"{target}: is a folder"
    if existing == "refuse" and target.is_file():
        return f"{target}: exists already"
    return None


def is_newer(target: Path | None, source: Path) -> TypeGuard[Path]:
    """Whether `target` is a file not older than its source."""
    if target is None or not target.is_file():
        return False
    return target.stat().st_mtime_ns >= source.stat().st_mtime_ns


@contextmanager
def fresh_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, renamed to it when the block ends well, else removed.

    Its name does not end like that of a result. Devices and named pipes are handed out as they are.
    """
    if target.exists() and not target.is_file():
        yield target
        return
    # A symbolic link keeps pointing where it points: its file is replaced, not the link.
    final = Path(os.path.realpath(target))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{final.parent}: {error.strerror}", hint="choose another -o") from error
    temporary = _temporary(final)
    _live.add(temporary)
    try:
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        if error.filename != str(temporary):
            raise
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    except AlmError as error:
        # Nobody has heard of the temporary name.
        error.message = error.message.replace(str(temporary), str(target))
        raise
    finally:
        temporary.unlink(missing_ok=True)
        _live.discard(temporary)


@contextmanager
def open_sink(target: Path | None, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """A binary file to write the result to: `stdout` when there is no target, else atomic."""
    if target is None:
        yield stdout
        stdout.flush()
        return
    with fresh_file(target) as path, path.open("wb") as file:
        yield file


def flush(file: IO[Any]) -> None:
    """Force what was written to the disk: a loss of power could leave a name without it."""
    file.flush()
    os.fsync(file.fileno())


def remove_temporaries() -> None:
    """Remove what unfinished writes of this process left, for an exit that waits for nobody."""
    for path in list(_live):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sweep(folders: set[Path]) -> None:
    """Remove the temporaries that killed runs left in `folders`."""
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if _is_stale(entry):
                    os.unlink(entry.path)


def _only_one(items: Sequence[Item], output: str) -> int:
    if len(items) > 1:
        hint = "give a folder, ending in /"
        raise UsageError(f"{len(items)} inputs cannot all be written to {output}", hint=hint)
    return len(items)


def _is_folder(items: Sequence[Item], output: str) -> bool:
    if output.endswith("/") or Path(output).is_dir():
        return True
    several = len(items) > 1 or any(not item.named for item in items)
    return several and not Path(output).exists()


def _beside(item: Item, folder: Path | None, place: PurePath) -> Path:
    if folder is not None:
        return folder / place
    return Path(place.name) if item.path is None else item.path.with_name(place.name)


def _append(place: PurePath, suffix: str) -> PurePath:
    return place.with_name(place.name + suffix)


def _whole(item: Item) -> PurePath:
    if item.path is None:
        return item.place
    path = Path(os.path.abspath(item.path))
    return path.relative_to(path.anchor)


def _distinct(*ladder: list[Path]) -> list[Path]:
    """For each item its first name that no other item of the same step has."""
    names = ladder[0]
    for step in ladder[1:]:
        # Case is folded because macOS holds a.wav and A.wav to be one file.
        count = Counter(str(name).casefold() for name in names)
        names = [
            further if count[str(name).casefold()] > 1 else name
            for name, further in zip(names, step, strict=True)
        ]
    if len({str(name).casefold() for name in names}) < len(names):
        hint = "give one -o folder each"
        raise UsageError("two inputs would be written to one output", hint=hint)
    return names


def _temporary(final: Path) -> Path:
    # Cut, because a name may be at most 255 bytes long; the checksum keeps it unique.
    word = f"{final.stem[:40]}-{zlib.crc32(final.name.encode(errors='surrogateescape')):08x}"
    return final.with_name(f".{word}.{_HOST}-{os.getpid()}.part")


def _is_stale(entry: os.DirEntry[str]) -> bool:
    match = _TEMPORARY.match(entry.name)
    if not match:
        return False
    if match["host"] != _HOST:
        return time.time() - entry.stat().st_mtime > _STALE_S
    try:
        os.kill(int(match["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


# The temporaries of this process, for the exit that waits for nobody.
_live: set[Path] = set()
