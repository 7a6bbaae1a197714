"""How a language is spelt: the probability of each letter after the last few, as a favour.

A model for CTC hears letters one by one and knows little of words. Letters that seldom follow one
another are held against a text while the beam is searched (arXiv:1408.2873); the counts are
smoothed as by Witten and Bell (1991) when they are made, and stored for all contexts that occur.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alm_cli.decoding.ctc import Favours

# What a step of the stored bytes is, in logarithms.
STEP = 1 / 16


class Spelling:
    """Favours for what is spelt as a language is; `letters` are those that its rows tell of.

    A context is a number with a digit for each letter, counted from 1, the last letter lowest.
    Of a letter with the logarithm p a text gains `weight` * p + `bonus`; the latter makes up for
    p being below zero, lest short texts win. Symbols that it does not know gain nothing.
    """

    def __init__(
        self,
        letters: str,
        contexts: NDArray[np.integer],
        rows: NDArray[np.uint8],
        vocabulary: Sequence[str],
        *,
        weight: float,
        bonus: float,
    ) -> None:
        self._base, wide = len(letters) + 1, len(letters)
        # Searched where they lie: a dictionary takes longer to make than a short recording to read.
        order = slice(None) if bool((contexts[1:] > contexts[:-1]).all()) else np.argsort(contexts)
        self._contexts = array("Q", contexts[order].astype(np.uint64).tobytes())
        self._costs, self._wide = rows[order].tobytes(), wide
        longest = max(int(contexts.max(initial=0)), 1)
        self._order = next(n for n in range(1, 64) if self._base**n > longest)
        self._powers = [self._base**n for n in range(self._order, -1, -1)]
        self._places = {
            symbol: letters.index(text)
            for symbol, text in enumerate(vocabulary)
            if len(text) == 1 and text in letters
        }
        self._gains = [bonus - weight * STEP * cost for cost in range(256)]
        self._first = letters.index(" ") + 1 if " " in letters else 0

    def begin(self) -> object:
        """The context of the first letter: the end of a word."""
        return self._first

    def step(self, state: object, symbol: int) -> tuple[object, float]:
        """The context with a further letter, and what is gained by it."""
        place = self._places.get(symbol)
        if place is None:
            return self._first, 0.0
        assert isinstance(state, int)
        after = (state * self._base + place + 1) % self._powers[0]
        return after, self._gains[self._costs[self._row(state) * self._wide + place]]

    def _row(self, state: int) -> int:
        """The row of the longest context that is known; that without letters always is."""
        contexts = self._contexts
        for power in self._powers:
            wanted = state % power
            row = bisect_left(contexts, wanted)
            if row < len(contexts) and contexts[row] == wanted:
                return row
        raise AssertionError("spelling without the context of no letters")

    def finish(self, state: object) -> float:  # noqa: ARG002
        """Nothing: a recording may end within a word."""
        return 0.0


class Together:
    """Favours of several kinds at once."""

    def __init__(self, *favours: Favours) -> None:
        self._favours = favours

    def begin(self) -> object:
        """The states of all."""
        return tuple(favours.begin() for favours in self._favours)

    def step(self, state: object, symbol: int) -> tuple[object, float]:
        """The states of all, and what is gained with all of them."""
        assert isinstance(state, tuple)
        pairs = [one.step(own, symbol) for one, own in zip(self._favours, state, strict=True)]
        return tuple(own for own, _ in pairs), sum(gain for _, gain in pairs)

    def finish(self, state: object) -> float:
        """What is gained with all of them."""
        assert isinstance(state, tuple)
        return sum(one.finish(own) for one, own in zip(self._favours, state, strict=True))


def counted(
    texts: Mapping[str, float], letters: str, order: int, *, least: float = 2.0
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Texts with their weights -> contexts [N] and how improbable each letter is there [N, V].

    Contexts have up to `order` letters; those of more than three count from a weight of `least`.
    Every text must have known letters only; spaces go around it.
    """
    numbers = {letter: place + 1 for place, letter in enumerate(letters)}
    codes = [np.array([numbers[c] for c in f" {text} "], dtype=np.int64) for text in texts]
    weights = np.repeat(list(texts.values()), [len(code) for code in codes])
    stream = np.concatenate(codes)
    starts = np.zeros(len(stream), dtype=np.int64)
    edges = np.cumsum([0, *map(len, codes)])
    starts = np.arange(len(stream)) - np.repeat(edges[:-1], np.diff(edges))
    base, wide = len(letters) + 1, len(letters)
    context = np.zeros(len(stream), dtype=np.int64)
    known, rows = np.zeros(1, np.int64), np.full((1, wide), 1 / wide)
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for size in range(order + 1):
        # A letter counts after so many letters of its own text; the first space is given.
        here = starts >= max(size, 1)
        contexts, place = np.unique(context[here], return_inverse=True)
        counts = np.zeros((len(contexts), wide))
        np.add.at(counts, (place, stream[here] - 1), weights[here])
        kept = counts.sum(1) >= (least if size > 3 else 0)
        contexts, counts = contexts[kept], counts[kept]
        parents = contexts % base ** max(size - 1, 0)
        where = np.searchsorted(known, parents)
        where = np.minimum(where, len(known) - 1)
        inside = known[where] == parents
        contexts, counts, where = contexts[inside], counts[inside], where[inside]
        kinds = (counts > 0).sum(1, keepdims=True)
        total = counts.sum(1, keepdims=True)
        known, rows = contexts, (counts + kinds * rows[where]) / (total + kinds)
        found.append((known, rows))
        # The context of one letter more, by the letters that stand before it.
        earlier = np.concatenate((np.zeros(size + 1, np.int64), stream))[: len(stream)]
        context = earlier * base**size + context
    costs = -np.log(np.concatenate([rows for _, rows in found])) / STEP
    return (
        np.concatenate([contexts for contexts, _ in found]).astype(np.uint32),
        np.clip(np.round(costs), 0, 255).astype(np.uint8),
    )
