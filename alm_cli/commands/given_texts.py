"""The one text that a command is given: as words, in a file, or through standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.sources import STDIN


def given_text(
    words: Sequence[str],
    file: str | None,
    others: Sequence[str | None],
    *,
    command: str,
    what: str,
) -> str | None:
    """The text, or None where one of `others`, --batch and --from-tokens, is given instead.

    UsageError: there is none, or two. InputError: it is unreadable or not UTF-8.
    """
    from alm_cli.files.texts import read_text

    ways = [bool(words), file is not None, *(other is not None for other in others)]
    if sum(ways) > 1:
        raise UsageError(f"{what}, --file, --batch and --from-tokens exclude each other")
    if any(other is not None for other in others):
        return None
    if not any(ways) and sys.stdin.isatty():
        raise UsageError(f"no {what}", hint=f"alm {command} --help shows where it can come from")
    if file is not None and file != STDIN:
        return read_text(Path(file))
    if file == STDIN or list(words) in ([], [STDIN]):
        return _decoded(sys.stdin.buffer.read())
    return " ".join(words)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text, at byte {error.start}") from error
