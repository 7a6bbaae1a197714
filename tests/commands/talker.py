"""`alm` as a process whose speaker beeps, and takes its time if it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.systems import speaker as system
from alm_cli.systems.speaker import Line, Spoken
from tests.systems.beeper import Beeper


class SlowBeeper(Beeper):
    """A beeper that waits before every chunk and every batch."""

    pause_s = float(os.environ.get("TALKER_PAUSE_S", "0"))

    def say(self, lines: Sequence[Line]) -> list[Spoken]:
        time.sleep(self.pause_s)
        return super().say(lines)

    def stream(self, line: Line) -> Generator[NDArray[np.float32], None, Spoken | None]:
        source = super().stream(line)
        while True:
            time.sleep(self.pause_s)
            try:
                samples = next(source)
            except StopIteration as end:
                return end.value
            yield samples


def main() -> None:
    """`alm`, where every speaker beeps."""
    from alm_cli.app import main as alm

    def load(*_: Any, **__: Any) -> SlowBeeper:
        return SlowBeeper()

    system.load_speaker = load
    alm()
