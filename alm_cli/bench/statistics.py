"""What repeated measurements say: the middle, the spread, and how sure one can be of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILES = (50, 90, 95, 99)
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values in short: how many, least, quartiles and most."""

    count: int
    least: float
    lower: float
    median: float
    upper: float
    most: float


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of values, of none of them None."""
    if not len(values):
        return None
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return Spread(
        count=len(values),
        least=float(min(values)),
        lower=float(lower),
        median=float(median),
        upper=float(upper),
        most=float(max(values)),
    )


def quantile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie, interpolated."""
    return float(np.percentile(values, percent))


def interval(
    values: Sequence[float], percent: float = 50, confidence: float = 0.95
) -> tuple[float, float]:
    """Where the quantile of `values` lies with this confidence: a percentile bootstrap.

    Efron, "Bootstrap methods: another look at the jackknife" (1979). The same values give the same
    interval; one value gives itself.
    """
    drawn = _resampled(np.asarray(values, np.float64))
    found = np.percentile(drawn, percent, axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def _resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """values [N] -> [R, N], each row N values drawn with replacement."""
    places = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    return values[places]
