"""How likely each code is, in whole numbers: what is known beforehand, and what was learnt so far.

The chance of a code is 2 to the power of its score. When a code has come its score rises, and all
fall in proportion to their chances: logistic regression, learnt one code at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from alm_cli.files.priors import Prior

Integers = NDArray[np.int64]

# Scores are 2^16 to an octave; shares are looked up in 64ths of one, down to 2^-16.
OCTAVE = 1 << 16
_FINE = 10
_SHARES = 16 * 64
# Scores in each of the two tables by context (8 MiB), and rows that one codebook may have there.
_SCORES, _MOST_ROWS = 1 << 20, 1 << 10


@lru_cache(maxsize=1)
def share_table() -> Integers:
    """floor(2^(16 - i/64)) for i from 0 to 1023, which need no floating point."""
    table = []
    for step in range(_SHARES):
        share = 1 << (_SHARES - step)  # 2^(64 x exponent), whose 64th root is six square roots
        for _ in range(6):
            share = isqrt(share)
        table.append(share)
    return np.array(table, np.int64)


class Chances(ABC):
    """The chances of what comes at each place of a frame; `ends`, then `learn`, place by place."""

    # How far a score rises at most.
    rate: int

    def __init__(self) -> None:
        self._shares = self._table = share_table()
        self._total = 1
        self._rows: tuple[Integers, ...] = ()

    @abstractmethod
    def begin(self) -> None:
        """Another stream begins, of which nothing is known; what was learnt stays."""

    @abstractmethod
    def next_frame(self) -> None:
        """A frame begins."""

    @abstractmethod
    def _scores(self, place: int) -> tuple[Integers, tuple[Integers, ...]]:
        """Scores at this place, and the rows that learn from what comes."""

    @abstractmethod
    def _chosen(self, place: int, value: int) -> None:
        """Remember for contexts what came."""

    def ends(self, place: int) -> Integers:
        """Where the share of each value ends; the last is the total, below 2^28."""
        scores, self._rows = self._scores(place)
        steps = scores.max() - scores >> _FINE
        self._shares = self._table.take(np.minimum(steps, _SHARES - 1, out=steps))
        ends = self._shares.cumsum()
        self._total = int(ends[-1])
        return ends

    def learn(self, place: int, value: int) -> None:
        """Value `value` came at the place that `ends` was last asked for."""
        fall = self._shares * ((self.rate << 32) // self._total) >> 32
        for row in self._rows:
            row -= fall
            row[value] += self.rate
        self._chosen(place, value)


class Contexts(Chances):
    """Nothing is known beforehand: scores of the values at a place, scores by the value that was
    there a frame ago, and scores by the value at the place before in the same frame."""

    rate = 3 * OCTAVE // 4

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        rows = _rows(sizes)
        self._own = [np.zeros(size, np.int64) for size in sizes]
        self._after = [np.zeros((n, size), np.int64) for n, size in zip(rows, sizes, strict=True)]
        above = zip([0, *rows], sizes, strict=False)
        self._above = [np.zeros((n, size), np.int64) for n, size in above]
        self._masks = [n - 1 for n in rows]
        self._values = [0] * len(sizes)

    def begin(self) -> None:
        self._values = [0] * len(self._values)

    def next_frame(self) -> None:
        pass

    def _scores(self, place: int) -> tuple[Integers, tuple[Integers, ...]]:
        own = self._own[place]
        after = self._after[place][self._values[place] & self._masks[place]]
        if not place:
            return own + after, (own, after)
        above = self._above[place][self._values[place - 1] & self._masks[place - 1]]
        return own + after + above, (own, after, above)

    def _chosen(self, place: int, value: int) -> None:
        self._values[place] = value


class Expected(Chances):
    """A prior says what to expect after the frames and codebooks before; learnt is an offset."""

    # Slower, as there is less to learn.
    rate = 3 * OCTAVE // 8

    def __init__(self, prior: Prior, codebooks: int) -> None:
        super().__init__()
        self._prior = prior
        self._own = [row.copy() for row in prior.bias[:codebooks]]
        self.begin()

    def begin(self) -> None:
        self._one = self._two = self._frame = self._prior.nothing
        self._shown = self._prior.nothing

    def next_frame(self) -> None:
        self._one, self._two = self._frame, self._one
        self._frame = self._shown = self._prior.nothing
        self._asked = self._prior.asked_by(self._one, self._two)

    def _scores(self, place: int) -> tuple[Integers, tuple[Integers, ...]]:
        own = self._own[place]
        return own + self._prior.scores(place, self._asked, self._shown), (own,)

    def _chosen(self, place: int, value: int) -> None:
        self._frame = self._frame + self._prior.told[place][value]
        self._shown = self._shown + self._prior.shown[place][value]


def _rows(sizes: Sequence[int]) -> list[int]:
    """Contexts by the value of each place: powers of two, all that there are or what is allowed."""
    most = min(_MOST_ROWS, _SCORES // sum(sizes))
    allowed = 1 << most.bit_length() - 1
    return [min(allowed, 1 << (size - 1).bit_length()) for size in sizes]
