"""Ctrl-C and its kin: end within a second, leave finished outputs whole and nothing else."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from alm_cli.jobs.sinks import remove_temporaries

BROKEN_PIPE = 128 + signal.SIGPIPE
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The user or the system asked the program to end; `exit_code` is 128 + the signal."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.exit_code = 128 + signum


def end_at_once(signum: int, _frame: FrameType | None = None) -> NoReturn:
    """A signal handler for moments with nothing to save: no thread is waited for."""
    remove_temporaries()
    os._exit(128 + signum)


def raise_interrupted(signum: int, _frame: FrameType | None = None) -> NoReturn:
    """A signal handler for moments with something to put in order; the next signal ends at once."""
    handle_signals(end_at_once)
    raise Interrupted(signum)


def handle_signals(handler: signal.Handlers | object) -> None:
    """Let `handler` answer every signal that asks to end, except those the parent had ignored."""
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)  # type: ignore[arg-type]


@contextmanager
def orderly() -> Iterator[None]:
    """Within the block a signal raises `Interrupted` in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    handle_signals(raise_interrupted)
    try:
        yield
    finally:
        for signum, handler in before.items():
            if handler is not None:
                signal.signal(signum, handler)


def leave(code: int) -> NoReturn:
    """End the program; when a thread still works or waits for input, without waiting for it."""
    if threading.active_count() == 1:
        sys.exit(code)
    remove_temporaries()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
