"""Whether the machine was quiet, and how long the rest takes: known answers."""

from __future__ import annotations

import pytest

from alm_cli.bench.timing import Timing, drift, interleaved, noise
from alm_cli.commands.pace import Pace


def took(*seconds: float, others: float | None = 0.0) -> Timing:
    return Timing(seconds=seconds, others=others)


def test_works_go_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    found = interleaved(works, runs=2)
    assert calls == list("ababab")
    assert [len(found[name].seconds) for name in "ab"] == [2, 2]


@pytest.mark.parametrize(
    ("seconds", "apart"),
    [
        ((1.0, 1.0, 1.2, 1.2), 0.2),
        ((1.2, 1.0), 0.2),
        ((1.0, 9.0, 1.03), 0.03),  # the middle one of an odd number is of neither half
        ((1.0,), None),
        ((2.0, 2.0), 0.0),
    ],
)
def test_p50_of_earlier_and_later_runs_is_compared(
    seconds: tuple[float, ...], apart: float | None
) -> None:
    assert drift([took(*seconds)]) == (None if apart is None else pytest.approx(apart))


def test_works_told_as_one_p50_are_taken_together() -> None:
    assert drift([took(1.0, 3.0), took(3.0, 1.0)]) == pytest.approx(0.0)


def test_a_machine_that_was_not_quiet_is_told_and_a_quiet_one_is_not() -> None:
    assert noise([[took(1.0, 1.04)], [took(5.0, 5.0)]]) == []
    assert noise([]) == noise([[took(1.0, others=None)]]) == []
    (shaky,) = noise([[took(1.0, 1.04)], [took(5.0, 5.5)]])
    assert "noisy" in shaky and "10 %" in shaky
    (busy,) = noise([[took(1.0, 1.0, others=0.7)]])
    assert "busy" in busy and "0.7 processors" in busy


def test_the_rest_is_guessed_from_what_was_done() -> None:
    now, told = [0.0], list[str]()
    pace = Pace(told.append, 10, clock=lambda: now[0])
    for step in range(10):
        now[0] += 2.0
        pace.step(f"{step + 1}", last=step == 9)
    assert told == [
        "1, about 18.0 s left",
        "4, about 12.0 s left",
        "7, about 6.0 s left",
        "10",
    ]
