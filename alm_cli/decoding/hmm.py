"""The hidden Markov model behind forced alignment: a text as a chain of states.

Before, between and after its symbols stand blanks, which need not be visited. In every frame the
chain stays where it is, goes to the next state, or leaves out a blank between two symbols that
differ; all ways are equally likely beforehand, and what is heard decides (Rabiner, 1989; Graves et
al., 2006). The forward probability is then that of the text under connectionist temporal
classification, the posteriors are its gradient, and the Viterbi path is the alignment.

    frames   . . H H . E . . L . L O O .
    states   0 0 1 1 2 3 4 4 5 6 7 9 9 10        H = 1, E = 3, L = 5, L = 7, O = 9
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

Logprobs = NDArray[np.floating]

# Frames after which the common past of all paths is looked for, so that it can be forgotten.
_SETTLE = 2048
# So far below the best is no way through what was found.
_LIKELY = 100.0


@dataclass(frozen=True, eq=False)
class Chain:
    """What each of S = 2 N + 1 states says [S], and into which one may skip the blank before."""

    symbols: NDArray[np.int64]
    skips: NDArray[np.bool_]

    @property
    def states(self) -> int:
        return len(self.symbols)


@dataclass(frozen=True, eq=False)
class Path:
    """States [F] int32, the log-probability of each frame there [F], and their sum."""

    states: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    score: float

    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each of the N symbols begins, and before which frame it ends."""
        last = int(self.states[-1]) if len(self.states) else 0
        places = np.arange(1, last + 1, 2)
        return (
            np.searchsorted(self.states, places, "left"),
            np.searchsorted(self.states, places, "right"),
        )


def chain(text: Sequence[int], blank: int = 0) -> Chain:
    """The states of a text of N symbols, none of which is the blank."""
    symbols = np.full(2 * len(text) + 1, blank, dtype=np.int64)
    symbols[1::2] = text
    skips = np.zeros(len(symbols), dtype=np.bool_)
    skips[3::2] = symbols[3::2] != symbols[1:-2:2]
    return Chain(symbols, skips)


def forward(logprobs: Logprobs, states: Chain) -> NDArray[np.float64]:
    """logprobs [F, V] -> [F, S]: log-probability of all ways that are in a state after a frame."""
    said = logprobs[:, states.symbols].astype(np.float64)
    alphas = np.full(said.shape, -inf)
    if len(said):
        alphas[0, :2] = said[0, :2]
    for frame in range(1, len(said)):
        stay, one, two = _arrivals(alphas[frame - 1], states.skips)
        alphas[frame] = np.logaddexp(np.logaddexp(stay, one), two) + said[frame]
    return alphas


def log_likelihood(logprobs: Logprobs, states: Chain) -> float:
    """How probable the text is in all ways together; minus this is the CTC loss."""
    if not len(logprobs):
        return 0.0 if states.states == 1 else -inf
    # The end is the last symbol or the blank after it.
    return float(np.logaddexp.reduce(forward(logprobs, states)[-1, -2:]))


def posteriors(logprobs: Logprobs, states: Chain) -> NDArray[np.float64]:
    """logprobs [F, V] -> [F, S]: how probable each state is, the whole recording being known.

    Forward and backward are the same walk: backward reads the reversed text in reversed time.
    """
    text = states.symbols[1::2]
    mirrored = Chain(states.symbols[::-1], chain(text[::-1].tolist(), int(states.symbols[0])).skips)
    ahead = forward(logprobs[::-1], mirrored)[::-1, ::-1]
    both = forward(logprobs, states) + ahead - logprobs[:, states.symbols]
    found: NDArray[np.float64] = np.exp(both - log_likelihood(logprobs, states))
    return found


def viterbi(logprobs: Logprobs, states: Chain, *, likely: bool = False) -> Path | None:
    """The most probable single way through all states, None where there are too few frames.

    A text that was found in the same frames is `likely`: nowhere so improbable that ways far below
    the best need be followed. If it is after all, they are.
    """
    for beam in (_LIKELY, inf) if likely else (inf,):
        search = Viterbi(states, beam=beam)
        search.push(logprobs)
        if (path := search.finish()) is not None:
            return path
    return None


class Viterbi:
    """The most probable way, while the recording is still being heard.

    A way that falls `beam` below the best is given up; among the rest a stretch of at most `most`
    neighbouring states is kept. A step back takes one byte, and is forgotten as soon as all ways
    that are left agree on it, so that hours need little memory. Without a beam and with room for
    all states it is exact.
    """

    def __init__(self, states: Chain, *, beam: float = inf, most: int | None = None) -> None:
        self._chain, self._beam, self._most = states, beam, most or states.states
        self._low = 0  # the first state that is still possible
        self._scores = np.zeros(0)
        self._steps: list[tuple[int, NDArray[np.uint8]]] = []
        self._heard: list[Logprobs] = []
        self._settled: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        self._limit = _SETTLE
        self._begun = False

    def push(self, logprobs: Logprobs) -> None:
        """logprobs [n, V] of the next frames."""
        for row in logprobs:
            if self._begun:
                self._advance(row)
            else:
                self._begin(row)
            self._heard.append(row)
            if len(self._steps) >= self._limit:
                self._settle()

    def finish(self) -> Path | None:
        """The best way that ends in the last symbol or the blank after it; None without one."""
        count = self._chain.states
        if not self._begun:
            return Path(np.zeros(0, np.int32), np.zeros(0, np.float32), 0.0) if count == 1 else None
        ends = range(max(self._low, count - 2), self._low + len(self._scores))
        end = max(ends, key=lambda state: float(self._scores[state - self._low]), default=None)
        if end is None or self._scores[end - self._low] == -inf:
            return None
        score = float(self._scores[end - self._low])
        self._keep(self._back(end, len(self._steps)))
        states, logprobs = zip(*self._settled, strict=True)
        return Path(np.concatenate(states), np.concatenate(logprobs), score)

    def _begin(self, row: Logprobs) -> None:
        self._begun = True
        self._scores = row[self._chain.symbols[:2]].astype(np.float64)
        self._steps.append((0, np.zeros(len(self._scores), np.uint8)))

    def _advance(self, row: Logprobs) -> None:
        """One frame on: each state from where it is most probably reached."""
        low = self._low
        high = min(low + len(self._scores) + 2, self._chain.states)
        scores = np.full(high - low, -inf)
        scores[: len(self._scores)] = self._scores
        stay, one, two = _arrivals(scores, self._chain.skips[low:high])
        steps = (one > stay).view(np.uint8)
        best = np.maximum(stay, one)
        steps[two > best] = 2
        best = np.maximum(best, two) + row[self._chain.symbols[low:high]]
        kept = self._kept(best)
        self._low, self._scores = low + kept.start, best[kept]
        # A copy: a view would keep the states alive that were given up.
        self._steps.append((self._low, steps[kept].copy()))

    def _kept(self, scores: NDArray[np.float64]) -> slice:
        """The stretch of states that are not given up."""
        if self._beam == inf and len(scores) <= self._most:
            return slice(0, len(scores))
        peak = int(scores.argmax())
        near = np.flatnonzero(scores >= scores[peak] - self._beam)
        first, last = int(near[0]), int(near[-1]) + 1
        if last - first > self._most:
            first = min(max(first, peak - self._most // 2), last - self._most)
            last = first + self._most
        return slice(first, last)

    def _back(self, state: int, frame: int) -> NDArray[np.int32]:
        """The states of the frames before `frame`, the last of which is `state`."""
        states = np.empty(frame, np.int32)
        for place in range(frame - 1, -1, -1):
            states[place] = state
            low, steps = self._steps[place]
            state -= int(steps[state - low])
        return states

    def _settle(self) -> None:
        """Keep what all ways have in common, and forget the other steps up to there."""
        frame = len(self._steps)
        states = np.flatnonzero(self._scores > -inf) + self._low
        while frame > 1 and states[0] != states[-1]:
            frame -= 1
            low, steps = self._steps[frame]
            # Ways do not cross, so that the outermost ones meet last.
            states = states - steps[states - low]
        if frame > 1:
            self._keep(self._back(int(states[0]), frame))
        # If hardly anything could be forgotten, the next look comes later.
        self._limit = max(_SETTLE, 2 * len(self._steps))

    def _keep(self, states: NDArray[np.int32]) -> None:
        """Settle the first frames: these are their states."""
        count = len(states)
        said = self._chain.symbols[states]
        pairs = zip(self._heard[:count], said, strict=True)
        logprobs = np.array([row[symbol] for row, symbol in pairs], dtype=np.float32)
        self._settled.append((states, logprobs))
        del self._steps[:count], self._heard[:count]


def _arrivals(
    scores: NDArray[np.float64], skips: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """scores [S] -> those of staying in each state, coming from the one before, and from two."""
    padded = np.concatenate(([-inf, -inf], scores))
    return scores, padded[1:-1], np.where(skips, padded[:-2], -inf)
