"""Spreads and intervals of values whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from alm_cli.bench.statistics import interval, quantile, spread


def test_a_spread_has_the_quartiles() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert found is not None
    assert (found.count, found.least, found.lower) == (5, 1.0, 2.0)
    assert (found.median, found.upper, found.most) == (3.0, 4.0, 5.0)
    assert spread([]) is None


def test_quantiles_are_interpolated() -> None:
    assert quantile([0.0, 10.0], 95) == pytest.approx(9.5)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        low, high = interval(list(rng.normal(size=30)))
        held += low <= 0 <= high
    assert 180 <= held <= 199  # 95 % of 200 is 190


def test_the_interval_is_the_same_every_time_and_of_one_value_nothing_wide() -> None:
    values = [1.0, 2.0, 9.0]
    assert interval(values, 90) == interval(values, 90)
    assert interval([3.0]) == (3.0, 3.0)
