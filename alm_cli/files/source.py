"""What a recording may be, and what every decoder looks like to the reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import InputError

Samples = NDArray[np.float32]

MIN_RATE, MAX_RATE, MAX_CHANNELS = 4_000, 384_000, 8


class DamagedError(Exception):
    """The decoder failed in the middle; the text says why."""


class Source(Protocol):
    """Where samples come from: facts of the header, then the samples once, in order.

    `length` is what the header declares, `seconds` may be an estimate. `truncated` is complete
    after the last block.
    """

    container: str
    rate: int
    channels: int
    length: int | None
    seconds: float | None
    truncated: bool

    def chunks(self) -> Iterator[Samples]:
        """Blocks [n, C] of any size; raises DamagedError."""

    def close(self) -> None:
        """Release the decoder, not the file."""


def check_sound(name: str, rate: int, channels: int) -> None:
    """Raise InputError for what nobody means seriously."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(
            f"{name}: a sample rate of {rate} Hz", hint=f"{MIN_RATE} to {MAX_RATE} Hz are possible"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InputError(f"{name}: {channels} channels", hint=f"1 to {MAX_CHANNELS} are possible")
