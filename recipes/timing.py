"""Times of works that are to be compared: taken in turn, told by median and range."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from alm_cli.bench.timing import interleaved

Sides = dict[str, Callable[[], object]]


def alternate(works: Sides, runs: int) -> dict[str, list[float]]:
    """Seconds of every work, in turn; the first round warms up and does not count."""
    return {name: list(timing.seconds) for name, timing in interleaved(works, runs=runs).items()}


def spread(values: list[float]) -> str:
    """`median (least to most)`."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
