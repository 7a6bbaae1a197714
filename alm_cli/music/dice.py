"""Chances that fall the same in every version of Python."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A seed's draws; only `random()` is used, whose numbers Python promises to keep."""

    def __init__(self, seed: int | str) -> None:
        self._next = Random(seed).random

    def chance(self, probability: float) -> bool:
        """Whether something so probable happens."""
        return self._next() < probability

    def between(self, low: float, high: float) -> float:
        """A number from low up to high."""
        return low + (high - low) * self._next()

    def pick(self, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of the items, each as likely as its weight."""
        if weights is None:
            return items[int(self._next() * len(items))]
        left = self._next() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return items[-1]
