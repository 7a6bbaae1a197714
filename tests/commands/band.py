"""`alm` as a process whose composer hums, and takes its time if it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems import composer as system
from alm_cli.systems.composer import Music, Piece
from tests.systems.hummer import Hummer


class SlowHummer(Hummer):
    """A hummer that waits before every chunk and every batch."""

    pause_s = float(os.environ.get("BAND_PAUSE_S", "0"))

    def compose(self, pieces: Sequence[Piece]) -> list[Music]:
        time.sleep(self.pause_s)
        return super().compose(pieces)

    def stream(self, piece: Piece) -> Generator[NDArray[np.float32], None, Music]:
        source = super().stream(piece)
        while True:
            time.sleep(self.pause_s)
            try:
                samples = next(source)
            except StopIteration as end:
                return end.value
            yield samples


def main() -> None:
    """`alm`, where every composer hums."""
    from alm_cli.app import main as alm

    def load(*_: Any, **__: Any) -> SlowHummer:
        return SlowHummer()

    system.load_composer = load
    alm()
