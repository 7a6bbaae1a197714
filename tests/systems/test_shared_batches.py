"""One model for many threads: who waits for whom, and what is answered together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from alm_cli.systems.shared_batches import SharedBatches


@dataclass(frozen=True, eq=False)
class Double:
    """Asks for twice a number; requests with one `kind` go together."""

    number: int
    kind: str = "even"


class Doubling:
    """Answers, and remembers what it was asked at a time."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, requests: Sequence[Double]) -> list[int]:
        assert len({request.kind for request in requests}) == 1
        self.batches.append([request.number for request in requests])
        if any(request.number < 0 for request in requests):
            raise ValueError("less than nothing")
        return [2 * request.number for request in requests]


def test_one_thread_is_answered_at_once_in_full_batches() -> None:
    run = Doubling()
    batches: SharedBatches[Double] = SharedBatches(run, 3)
    with batches.joined():
        tickets = batches.submit([Double(n) for n in range(7)])
        for _ in range(3):
            batches.wait([ticket for ticket in tickets if not ticket.done])
    assert run.batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert [ticket.answer() for ticket in tickets] == [0, 2, 4, 6, 8, 10, 12]


def test_kinds_are_not_mixed_and_the_most_wanted_comes_first() -> None:
    run = Doubling()
    batches: SharedBatches[Double] = SharedBatches(run, 8)
    tickets = batches.submit([Double(1, "odd"), Double(2), Double(4)])
    batches.wait(tickets)
    assert run.batches == [[2, 4]]
    batches.wait(tickets[:1])
    assert run.batches == [[2, 4], [1]]


def test_threads_that_ask_at_the_same_time_share_batches() -> None:
    run = Doubling()
    batches: SharedBatches[Double] = SharedBatches(run, 4)
    start = threading.Barrier(4)
    answers: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        with batches.joined():
            start.wait()
            answers[number] = [batches.ask(Double(10 * n + number)) for n in range(5)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {k: [2 * (10 * n + k) for n in range(5)] for k in range(4)}
    assert sum(map(len, run.batches)) == 20
    assert max(map(len, run.batches)) > 1


def test_an_error_is_raised_by_all_who_asked_and_stops_nothing() -> None:
    run = Doubling()
    batches: SharedBatches[Double] = SharedBatches(run, 2)
    bad = batches.submit([Double(-1), Double(1)])
    batches.wait(bad)
    for ticket in bad:
        with pytest.raises(ValueError, match="less than nothing"):
            ticket.answer()
    assert batches.ask(Double(3)) == 6


def test_who_left_is_not_waited_for_and_what_is_withdrawn_not_answered() -> None:
    run = Doubling()
    batches: SharedBatches[Double] = SharedBatches(run, 2)
    with batches.joined():
        batches.withdraw(batches.submit([Double(5)]))
        assert batches.ask(Double(6)) == 12
    assert run.batches == [[6]]


def test_a_thread_that_asks_nothing_is_waited_for_but_not_for_long() -> None:
    run = Doubling()
    batches: SharedBatches[Double] = SharedBatches(run, 2)
    with batches.joined(), batches.joined():
        assert batches.ask(Double(1)) == 2
