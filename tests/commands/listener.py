"""A recogniser without a network, that writes down what it hears, and the program with it."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import UsageError
from alm_cli.systems import transcriber as system
from alm_cli.systems.transcriber import RATE, TranscribeAsk
from alm_cli.values import Segment, Word

Samples = NDArray[np.float32]


class Listener:
    """Writes the checksum of every second down, two segments a window of two seconds.

    What it writes hangs on all that it wrote before; it hears every recording twice.
    """

    def __init__(self, name: str = "listener", weights: str = "ab" * 32) -> None:
        self.name, self.weights_sha256 = name, weights
        self.heard: list[Samples] = []
        self.asked: list[TranscribeAsk] = []
        self.resumed: list[int] = []
        self.limit: int | None = None
        self.pause_s = 0.0
        self.remembers = True

    def segments(
        self, recording: Callable[[], Iterable[Samples]], ask: TranscribeAsk
    ) -> Iterator[Segment]:
        return self._from(recording, ask, 0, 0)

    def resume(
        self,
        recording: Callable[[], Iterable[Samples]],
        ask: TranscribeAsk,
        earlier: Iterable[Segment],
        seek: int,
    ) -> Iterator[Segment]:
        self.resumed.append(seek)
        return self._from(recording, ask, sum(sum(one.tokens) for one in earlier), seek)

    def _from(
        self, recording: Callable[[], Iterable[Samples]], ask: TranscribeAsk, said: int, seek: int
    ) -> Iterator[Segment]:
        self.asked.append(ask)
        if ask.task == "translate":
            raise UsageError("listener cannot translate")
        if not ask.stream:
            heard = [block for block in recording() if self.remembers]
            self.heard.append(np.concatenate(heard or [np.zeros(0, np.float32)]))
        waiting = np.zeros(0, np.float32)
        second = 0
        for block in recording():
            waiting = np.concatenate((waiting, block))
            while len(waiting) >= RATE:
                if second >= seek // 100:
                    time.sleep(self.pause_s)
                    said, segment = self._segment(waiting[:RATE], second, said)
                    yield segment
                    if self.limit is not None and second >= self.limit:
                        raise KeyError("no more")
                second, waiting = second + 1, waiting[RATE:]
        if len(waiting):
            yield self._segment(waiting, second, said)[1]

    def _segment(self, samples: Samples, second: int, said: int) -> tuple[int, Segment]:
        token = zlib.crc32(samples.tobytes(), said) % 50_000
        end = second + len(samples) / RATE
        word = Word(start_s=float(second), end_s=end, text=f" {token}", probability=0.5)
        return said + token, Segment(
            start_s=float(second),
            end_s=end,
            text=f" {token}.",
            words=(word,),
            tokens=(token,),
            seek=second // 2 * 200,
            temperature=0.0,
            avg_logprob=-0.25,
            compression_ratio=0.5,
            no_speech_prob=0.125,
            language="en",
        )


def main() -> None:
    """`alm` as a process, where every model is a listener that takes its time."""
    from alm_cli.app import main as alm

    def load(source: str, **_: object) -> Listener:
        listener = Listener(Path(source).name)
        listener.remembers = False
        listener.pause_s = float(os.environ.get("LISTENER_PAUSE_S", "0"))
        return listener

    system.load_transcriber = load  # type: ignore[assignment]
    alm()
