"""Times of works that are to be compared: taken in turn, told by median and range."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Sides = dict[str, Callable[[], object]]


def alternate(works: Sides, runs: int) -> dict[str, list[float]]:
    """Seconds of every work, in turn; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: times[1:] for name, times in seconds.items()}


def spread(values: list[float]) -> str:
    """`median (least to most)`."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
