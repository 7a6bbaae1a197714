"""The channel: order, bounds, errors in their place, and either side may leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from alm_cli.jobs.channel import Channel, Stopped


def fed(values: Iterator[int], capacity: int = 2) -> tuple[Channel[int], threading.Thread]:
    """A channel into which a thread feeds `values`."""
    channel = Channel[int](capacity, threading.Event())
    thread = threading.Thread(target=channel.feed, args=(values,), daemon=True)
    thread.start()
    return channel, thread


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_everything_arrives_in_order(count: int) -> None:
    channel, _ = fed(iter(range(count)))
    assert list(channel) == list(range(count))


def test_no_more_than_the_capacity_lies_in_between() -> None:
    made: list[int] = []

    def values() -> Iterator[int]:
        for value in range(100):
            made.append(value)
            yield value

    channel, thread = fed(values(), capacity=3)
    time.sleep(0.1)
    assert len(made) == 4  # three wait, one is held out
    assert list(channel) == list(range(100))
    thread.join(1)
    assert channel.producer_waited_s > 0.05


def test_an_error_comes_after_the_values_before_it() -> None:
    def values() -> Iterator[int]:
        yield 1
        raise ValueError("two")

    channel, _ = fed(values())
    arrived = []
    with pytest.raises(ValueError, match="two"):
        for value in channel:
            arrived.append(value)
    assert arrived == [1]


def test_a_consumer_that_leaves_closes_the_producer() -> None:
    closed = threading.Event()

    def values() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    channel, thread = fed(values())
    assert next(iter(channel)) == 1
    channel.leave()
    thread.join(1)
    assert closed.is_set()
    assert not thread.is_alive()


def test_stopping_ends_both_sides() -> None:
    stop = threading.Event()
    full, empty = Channel[int](1, stop), Channel[int](1, stop)
    full.put(1)
    stop.set()
    with pytest.raises(Stopped):
        full.put(2)
    with pytest.raises(Stopped):
        next(iter(empty))
