"""How far a long measurement is, and how long the rest may take."""

from __future__ import annotations

import time
from collections.abc import Callable

from alm_cli.jobs.report import duration

_EVERY_S = 5.0


class Pace:
    """Says a line now and then: what is done, how much of how much, about how long the rest takes.

    Steps count alike, so the rest is a guess; the first step, the last of a part and the last of
    all are told in any case.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        steps: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._steps, self._clock = say, steps, clock
        self._done = 0
        self._began = clock()
        self._told = -_EVERY_S

    def step(self, what: str, *, last: bool = False) -> None:
        """One more step is done; `last` of its part."""
        self._done += 1
        took = self._clock() - self._began
        last |= self._done == self._steps
        if not last and took - self._told < _EVERY_S:
            return
        self._told = took
        left = took / self._done * (self._steps - self._done)
        rest = f", about {duration(left)} left" if self._done < self._steps else ""
        self._say(f"{what}{rest}")
