"""What can go wrong for a user: one short tree of errors, each with the exit code it deserves.

AlmError
  InputError       unreadable or unsuitable audio, tokens or options
    FormatError    a file of another version or kind, truncated or corrupted
  UsageError       options that contradict each other (exit code 2)
  ModelError       unknown model, checkpoint mismatch, missing file, no network (exit code 3)
"""

from __future__ import annotations

DONE, SOME_FAILED, USAGE, MODEL_UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 130


class AlmError(Exception):
    """A mistake that the user can mend: `message` says what and where, `hint` what to do."""

    exit_code = SOME_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(AlmError):
    """An input is unreadable or unsuitable."""


class FormatError(InputError):
    """A file is of another version or kind, truncated or corrupted."""


class UsageError(AlmError):
    """The options contradict each other."""

    exit_code = USAGE


class ModelError(AlmError):
    """The model is unknown, does not fit its checkpoint, or is not available."""

    exit_code = MODEL_UNAVAILABLE
