"""Log-probabilities of symbols -> what is written: best path, and prefix beam search with favours.

Connectionist temporal classification (Graves et al., 2006): a path says one symbol a frame; it
writes what is left when repetitions are collapsed and blanks removed. Prefix beam search sums over
the paths that write the same (arXiv:1408.2873).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, log1p
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logprobs = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Spike:
    """A written symbol, its frames from `begin` to before `end`, and the best probability there."""

    symbol: int
    begin: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Symbols, the log-probability of all paths that write them, and what they gain beyond it."""

    symbols: tuple[int, ...]
    logprob: float
    favour: float = 0.0


class Favours(Protocol):
    """What some texts gain over others, symbol by symbol."""

    def begin(self) -> object:
        """The state before the first symbol."""

    def step(self, state: object, symbol: int) -> tuple[object, float]:
        """The state after a further symbol, and what is gained by it."""

    def finish(self, state: object) -> float:
        """What is gained when nothing follows."""


def greedy(logprobs: Logprobs, blank: int = 0) -> list[Spike]:
    """logprobs [F, V] -> the symbols that the most probable path writes."""
    if not len(logprobs):
        return []
    best = logprobs.argmax(1)
    begins = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(begins[1:], len(best))
    peaks = np.maximum.reduceat(logprobs[np.arange(len(best)), best], begins)
    runs = zip(best[begins].tolist(), begins.tolist(), ends.tolist(), peaks.tolist(), strict=True)
    return [
        Spike(symbol, begin, end, exp(peak)) for symbol, begin, end, peak in runs if symbol != blank
    ]


def prefix_beam(
    logprobs: Logprobs,
    blank: int = 0,
    *,
    width: int = 8,
    least: float = -inf,
    favours: Favours | None = None,
) -> list[Hypothesis]:
    """logprobs [F, V] -> up to `width` texts, the best first.

    Symbols below the log-probability `least` are not tried where the best of the frame is above
    it. Exact where `width` holds all texts and nothing is below `least`.
    """
    root = _Prefix(None, -1, favours.begin() if favours else None, 0.0)
    beam: list[tuple[_Prefix, float, float]] = [(root, 0.0, -inf)]
    for row in logprobs:
        tried = np.flatnonzero(row >= min(least, float(row.max()))).tolist()
        silent = float(row[blank])
        if tried == [blank]:
            beam = [(prefix, _sum(ended, said) + silent, -inf) for prefix, ended, said in beam]
            continue
        values = row[tried].tolist()
        grown = _grown(beam, zip(tried, values, strict=True), silent, blank, favours)
        beam = _best(grown, width)
    found = [
        Hypothesis(
            prefix.symbols(),
            _sum(ended, said),
            prefix.favour + (favours.finish(prefix.state) if favours else 0.0),
        )
        for prefix, ended, said in beam
    ]
    return sorted(found, key=lambda one: one.logprob + one.favour, reverse=True)


class _Prefix:
    """What has been written so far, shared by all its continuations."""

    __slots__ = ("children", "favour", "parent", "state", "symbol")

    def __init__(self, parent: _Prefix | None, symbol: int, state: object, favour: float) -> None:
        self.parent, self.symbol, self.state, self.favour = parent, symbol, state, favour
        self.children: dict[int, _Prefix] = {}

    def then(self, symbol: int, favours: Favours | None) -> _Prefix:
        """This and one symbol more, the same object whenever it is asked for."""
        child = self.children.get(symbol)
        if child is None:
            state, gain = favours.step(self.state, symbol) if favours else (None, 0.0)
            child = self.children[symbol] = _Prefix(self, symbol, state, self.favour + gain)
        return child

    def symbols(self) -> tuple[int, ...]:
        """All symbols from the first."""
        found = []
        prefix: _Prefix | None = self
        while prefix is not None and prefix.parent is not None:
            found.append(prefix.symbol)
            prefix = prefix.parent
        return tuple(reversed(found))


def _grown(
    beam: list[tuple[_Prefix, float, float]],
    tried: Iterable[tuple[int, float]],
    silent: float,
    blank: int,
    favours: Favours | None,
) -> dict[_Prefix, list[float]]:
    """The beam a frame later: of each text, the sums of paths that end in a blank and that do not.

    A repeated symbol is written twice only after a blank.
    """
    grown: dict[_Prefix, list[float]] = {}
    candidates = [(symbol, value) for symbol, value in tried if symbol != blank]
    for prefix, ended, said in beam:
        both = _sum(ended, said)
        own = grown.setdefault(prefix, [-inf, -inf])
        own[0] = _sum(own[0], both + silent)
        for symbol, value in candidates:
            before = both
            if symbol == prefix.symbol:
                own[1] = _sum(own[1], said + value)
                before = ended
            if before > -inf:
                entry = grown.setdefault(prefix.then(symbol, favours), [-inf, -inf])
                entry[1] = _sum(entry[1], before + value)
    return grown


def _best(grown: dict[_Prefix, list[float]], width: int) -> list[tuple[_Prefix, float, float]]:
    found = [(prefix, ended, said) for prefix, (ended, said) in grown.items()]
    found.sort(key=lambda one: _sum(one[1], one[2]) + one[0].favour, reverse=True)
    return found[:width]


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))


class Hotwords:
    """Favours for texts with certain words: a gain for each letter, taken back if the word ends
    otherwise.

    Given by letters, it keeps a rare word in the beam until the sound has said all of it.
    """

    def __init__(
        self, words: Iterable[str], vocabulary: Sequence[str], per_letter: float = 1.0
    ) -> None:
        self._words = frozenset(filter(None, words))
        self._begun = frozenset(word[:end] for word in self._words for end in range(len(word) + 1))
        self._vocabulary, self._gain = vocabulary, per_letter

    def begin(self) -> object:
        """The word that has begun: none of it yet."""
        return ""

    def step(self, state: object, symbol: int) -> tuple[object, float]:
        """What has been said of a wanted word, None within another word; and the gain."""
        gain = 0.0
        for letter in self._vocabulary[symbol]:
            if letter == " ":
                gain += self.finish(state)
                state = ""
            elif isinstance(state, str):
                known = state + letter in self._begun
                gain += self._gain if known else -self._gain * len(state)
                state = state + letter if known else None
        return state, gain

    def finish(self, state: object) -> float:
        """The gain of a word that was not said to its end is taken back."""
        if not isinstance(state, str) or state in self._words:
            return 0.0
        return -self._gain * len(state)
