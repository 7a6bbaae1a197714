"""A bounded hand-over of values between two threads, which carries the end and the errors too."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

# Waiting is broken off this often to look whether the whole job was stopped.
_PATIENCE_S = 0.05


class Stopped(Exception):  # noqa: N818 - not an error
    """The job was stopped while a thread waited."""


class Channel(Generic[T]):
    """One producer feeds values, one consumer iterates; at most `capacity` lie in between.

    What the producer's iterable raises is raised at the consumer, in its place among the values.
    When the consumer leaves, the producer's generator is closed. How long either side waited is
    counted in seconds.
    """

    def __init__(self, capacity: int, stop: threading.Event) -> None:
        self._capacity = capacity
        self._stop = stop
        self._values: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._left = False
        self._error: BaseException | None = None
        self.producer_waited_s = 0.0
        self.consumer_waited_s = 0.0

    def feed(self, values: Iterable[T]) -> None:
        """Hand over all `values`, then end; returns early when nobody wants more."""
        source = iter(values)
        try:
            for value in source:
                if not self.put(value):
                    break
            _close(source)
        except BaseException as error:  # it is raised again at the consumer
            self._error = error
            with suppress(Exception):
                _close(source)
        finally:
            self.end()

    def put(self, value: T) -> bool:
        """Hand over one value when there is room; False when the consumer has left."""
        with self._changed:
            self.producer_waited_s += self._wait(self._has_room)
            if self._left:
                return False
            self._values.append(value)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """Say that no value follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def leave(self) -> None:
        """Say that no further value is wanted."""
        with self._changed:
            self._left = True
            self._values.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self.consumer_waited_s += self._wait(self._has_news)
                if not self._values:
                    if self._error is not None:
                        raise self._error
                    return
                value = self._values.popleft()
                self._changed.notify_all()
            yield value

    def _has_room(self) -> bool:
        return self._left or len(self._values) < self._capacity

    def _has_news(self) -> bool:
        return self._ended or bool(self._values)

    def _wait(self, ready: Callable[[], bool]) -> float:
        """Wait until `ready`, holding the lock in between; the seconds it took."""
        began = time.perf_counter()
        while not self._stop.is_set():
            if ready():
                return time.perf_counter() - began
            self._changed.wait(_PATIENCE_S)
        raise Stopped


def _close(source: object) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()
