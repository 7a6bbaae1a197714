"""Values that come in any order, handed on in their own, while few of them wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from alm_cli.jobs.channel import Stopped

T = TypeVar("T")

# What a waiting value costs besides its own bytes; so at most 256 wait, and at most 64 MiB.
_EACH, _BUDGET = 1 << 18, 1 << 26


class Ordered(Generic[T]):
    """Calls `sink` with the values 0, 1, 2, ..., whichever thread brings them and when.

    Whoever is too far ahead waits. That ends, for the thread with the next number never waits: the
    numbers must have been given out in order, and each thread must bring its own in order.
    """

    def __init__(self, sink: Callable[[T], None], budget: int = _BUDGET) -> None:
        self._sink = sink
        self._budget = budget
        self._next = self._cost = 0
        self._waiting: dict[int, tuple[T, int]] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, number: int, value: T, size: int = 0) -> None:
        """Bring a value of `size` bytes. Stopped: nobody takes it any more."""
        cost = size + _EACH
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_enter(number, cost))
            if self._closed:
                raise Stopped
            self._waiting[number] = value, cost
            self._cost += cost
            try:
                self._hand_on()
            except BaseException:
                self._closed = True
                raise
            finally:
                self._changed.notify_all()

    def close(self) -> None:
        """Let those who wait go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _may_enter(self, number: int, cost: int) -> bool:
        return number == self._next or self._cost + cost <= self._budget

    def _hand_on(self) -> None:
        while self._next in self._waiting:
            value, cost = self._waiting.pop(self._next)
            self._cost -= cost
            self._sink(value)
            self._next += 1
