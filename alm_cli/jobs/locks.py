"""Locks on numbers, held by processes on one or several machines through a file that they share."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

_PAUSE_S = 0.1


class Locks:
    """Each number is held by one process at most; a process that ends, however, holds none.

    Ranges of bytes are locked (POSIX), which network file systems do too. On those that do not,
    every lock is granted: then it is for the user to give each process its own share.
    """

    def __init__(self, path: Path) -> None:
        # Never closed before the end: closing any handle of the file would release all its locks.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def hold(self, number: int, patience_s: float | None = None) -> bool:
        """Hold `number`, after at most `patience_s` (None: however long it takes)."""
        deadline = None if patience_s is None else time.monotonic() + patience_s
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE_S)
                continue
            except OSError:
                pass
            return True

    def release(self, number: int) -> None:
        """Let another process have `number`."""
        with suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def close(self) -> None:
        """Release all."""
        os.close(self._file)
