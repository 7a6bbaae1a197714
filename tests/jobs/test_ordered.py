"""Values in any order come out in their own, few of them wait, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time

import pytest

from alm_cli.jobs.channel import Stopped
from alm_cli.jobs.ordered import Ordered


@pytest.mark.parametrize("budget", [0, 1 << 18, 1 << 26])
def test_threads_bring_values_out_of_order(budget: int) -> None:
    found: list[int] = []
    ordered = Ordered(found.append, budget)
    todo, lock, chance = iter(range(300)), threading.Lock(), random.Random(0)
    naps = [chance.random() / 1000 for _ in range(300)]

    def bring() -> None:
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return
            time.sleep(naps[number])
            ordered.put(number, number, 10)

    threads = [threading.Thread(target=bring) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == list(range(300))


def test_whoever_is_too_far_ahead_waits() -> None:
    found: list[str] = []
    ordered = Ordered(found.append, budget=3 << 18)
    for number in (3, 1, 2):
        ordered.put(number, str(number))
    late = threading.Thread(target=ordered.put, args=(4, "4"))
    late.start()
    late.join(0.1)
    assert late.is_alive()
    ordered.put(0, "0", size=1 << 40)  # its turn has come, however large it is
    late.join(60)
    assert found == ["0", "1", "2", "3", "4"]


def test_closing_lets_those_who_wait_go() -> None:
    ordered = Ordered(lambda _: None, budget=0)
    stopped = threading.Event()

    def wait() -> None:
        with pytest.raises(Stopped):
            ordered.put(5, None)
        stopped.set()

    thread = threading.Thread(target=wait)
    thread.start()
    ordered.close()
    thread.join(60)
    assert stopped.is_set()
    with pytest.raises(Stopped):
        ordered.put(0, None)


def test_when_nothing_can_be_kept_nothing_more_is_taken() -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    ordered = Ordered(full)
    ordered.put(1, 1)
    with pytest.raises(OSError, match="No space left"):
        ordered.put(0, 0)
    with pytest.raises(Stopped):
        ordered.put(2, 2)
