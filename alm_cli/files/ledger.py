"""What this program has made in a folder, and from what: a hidden file with a line for each output.

Subtitles and plain text cannot say which model wrote them, and people correct them by hand: the
ledger tells what is still as it was made, and whether it would be made the same today.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

NAME = ".alm-made.jsonl"
_LONGEST_LINE = 1 << 16

State = Literal["missing", "current", "outdated", "foreign"]


class Ledger:
    """The ledgers of all folders that outputs go to, each read when it is first asked for."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Mapping[str, Any]]] = {}

    def state(self, target: Path, made: Mapping[str, Any]) -> State:
        """What `target` is, when `made` says how it would be made today.

        Foreign is what this program has not made, or what was changed since.
        """
        if not target.is_file():
            return "missing"
        noted = self._read(target.parent).get(target.name)
        if noted is None or noted.get("file") != _identity(target):
            return "foreign"
        return "current" if noted.get("made") == _digest(made) else "outdated"

    def note(self, target: Path, made: Mapping[str, Any]) -> None:
        """Remember how `target`, which is there, was made; a folder without room for it forgets."""
        line = {"name": target.name, "file": _identity(target), "made": _digest(made)}
        self._read(target.parent)[target.name] = line
        # One short write at the end of the file: the lines of several processes do not mix.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        with suppress(OSError):
            file = os.open(target.parent / NAME, flags, 0o666)
            try:
                os.write(file, json.dumps(line).encode() + b"\n")
            finally:
                os.close(file)

    def _read(self, folder: Path) -> dict[str, Mapping[str, Any]]:
        if folder not in self._folders:
            found: dict[str, Mapping[str, Any]] = {}
            self._folders[folder] = found
            path = folder / NAME
            if path.is_file():
                with path.open("rb") as file:
                    while line := file.readline(_LONGEST_LINE):
                        _take(line, found)
        return self._folders[folder]


def _take(line: bytes, found: dict[str, Mapping[str, Any]]) -> None:
    """Add what a line says; one that makes no sense says nothing."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return
    if isinstance(record, dict) and isinstance(record.get("name"), str):
        found[record["name"]] = record


def _identity(target: Path) -> list[int]:
    status = target.stat()
    return [status.st_size, status.st_mtime_ns]


def _digest(made: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
