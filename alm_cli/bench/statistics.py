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


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and the bounds between which it lies with 95 % confidence."""

    value: float
    lower: float
    upper: float


def estimate(values: Sequence[float], percent: float) -> Estimate | None:
    """The quantile of values and its bootstrap interval, of no values None."""
    if not len(values):
        return None
    lower, upper = interval(values, percent)
    return Estimate(value=quantile(values, percent), lower=lower, upper=upper)


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Estimate | None:
    """Sum of parts over sum of wholes and its interval: pairs are drawn, as they belong together.

    That is how a word error rate over recordings is bounded (Bisani & Ney, ICASSP 2004).
    """
    pairs = np.stack((np.asarray(parts, np.float64), np.asarray(wholes, np.float64)), 1)
    if not pairs[:, 1].sum():
        return None
    places = np.random.default_rng(0).integers(0, len(pairs), (_RESAMPLES, len(pairs)))
    sums = pairs[places].sum(1)
    found = sums[:, 0] / np.maximum(sums[:, 1], 1e-12)
    lower, upper = np.percentile(found[sums[:, 1] > 0], [2.5, 97.5])
    value = pairs[:, 0].sum() / pairs[:, 1].sum()
    return Estimate(value=float(value), lower=float(lower), upper=float(upper))


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
