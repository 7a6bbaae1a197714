"""How probable a word is after the last two: counts of trigrams, smoothed as by Kneser and Ney.

A word that never stood after a context is looked up in the shorter one, at a price: the tables are
those of ARPA files. Discounts are those of Chen and Goodman (1999), "An empirical study of
smoothing techniques for language modeling".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# The word before the first one and after the last.
BORDER = 0
# What a step of the stored bytes is, in logarithms.
_STEP = 1 / 16
_BITS = 16  # of the number of a word
# Discounts differ for what was counted once, twice and oftener.
_KINDS = 3


class NGrams:
    """What each of V words costs (minus the natural logarithm of how probable it is) after C
    contexts.

    The context w < V is that of a word, V the empty one, those above are of two words: `pairs` are
    the places among `followers` of the words that end them. After a context stand `sizes` [C]
    words, in order in `followers`, at `costs`; all others cost `backoffs` [C] and what they do in
    the shorter context, or without one `unigrams` [V].
    """

    def __init__(
        self,
        unigrams: Floats,
        sizes: Ints,
        backoffs: Floats,
        followers: Ints,
        costs: Floats,
        pairs: Ints,
    ) -> None:
        words = np.arange(len(unigrams))
        self.unigrams, self.sizes, self.backoffs = unigrams, sizes, backoffs
        self.followers, self.costs, self.pairs = followers, costs, pairs
        self._empty = len(unigrams)
        self._own = np.where(sizes[words] > 0, words, self._empty)
        self._shorter = np.full(len(sizes), self._empty)
        self._shorter[self._empty + 1 :] = self._own[followers[pairs]]
        contexts = np.repeat(np.arange(len(sizes)), sizes)
        self._keys = contexts << _BITS | followers
        # After the last two words, if anything is known to stand there, or else after the last.
        self._after = self._own[followers]
        self._after[pairs] = np.arange(self._empty + 1, len(sizes))
        longer = np.flatnonzero(contexts > self._empty)
        wanted = self._shorter[contexts[longer]] << _BITS | followers[longer]
        places = np.minimum(self._keys.searchsorted(wanted), len(self._keys) - 1)
        known = self._keys[places] == wanted if len(wanted) else places > 0
        self._after[longer[known]] = self._after[places[known]]

    @property
    def first(self) -> int:
        """The context of a first word."""
        return int(self._own[BORDER])

    def step(self, contexts: Ints, words: Ints) -> tuple[Floats, Ints]:
        """contexts [N], words [N] -> what the words cost there [N], and the contexts after [N]."""
        costs, after = np.zeros(len(words)), self._own[words]
        left, here = np.arange(len(words)), contexts
        for _ in range(2):
            wanted = here << _BITS | words[left]
            places = np.minimum(self._keys.searchsorted(wanted), len(self._keys) - 1)
            found = self._keys[places] == wanted
            hits = left[found]
            costs[hits] += self.costs[places[found]]
            after[hits] = self._after[places[found]]
            left, here = left[~found], here[~found]
            costs[left] += self.backoffs[here]
            here = self._shorter[here]
        costs[left] += self.unigrams[words[left]]
        return costs, after

    def favouring(self, words: Sequence[int], count: int, cost: float) -> NGrams:
        """The same of `count` words, of which those that are new and `words` cost so much at most.

        It is no distribution any more.
        """
        old, new = len(self.unigrams), count - len(self.unigrams)
        unigrams = np.concatenate((self.unigrams, np.full(new, cost)))
        unigrams[words] = np.minimum(unigrams[words], cost)
        favoured = np.isin(self.followers, words)
        return NGrams(
            unigrams,
            np.insert(self.sizes, old, np.zeros(new, np.int64)),
            np.insert(self.backoffs, old, np.zeros(new)),
            self.followers,
            np.where(favoured, np.minimum(self.costs, cost), self.costs),
            self.pairs,
        )

    def cheapest(self) -> Floats:
        """The least that each word costs anywhere [V]."""
        found = self.unigrams.copy()
        np.minimum.at(found, self.followers, self.costs)
        return found

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it in few bytes, costs rounded to sixteenths; `restored` reads it."""
        return {
            "unigrams": _rounded(self.unigrams),
            "sizes": self.sizes.astype(np.uint16),
            "backoffs": _rounded(self.backoffs),
            "followers": self.followers.astype(np.uint16),
            "costs": _rounded(self.costs),
            "pairs": self.pairs.astype(np.uint32),
        }


def restored(arrays: Mapping[str, NDArray[np.generic]]) -> NGrams:
    """The inverse of `NGrams.arrays`. FormatError: the tables do not fit together."""
    unigrams, sizes, backoffs, followers, costs, pairs = (
        arrays[name].astype(np.int64)
        for name in ("unigrams", "sizes", "backoffs", "followers", "costs", "pairs")
    )
    words = len(unigrams)
    fits = (
        0 < words <= 1 << _BITS
        and len(sizes) == len(backoffs) == words + 1 + len(pairs)
        and int(sizes.sum()) == len(followers) == len(costs)
        and int(followers.max(initial=0)) < words
        and int(pairs.max(initial=-1)) < len(followers)
        and sizes[words] == 0
    )
    if not fits:
        raise FormatError("n-grams: the tables do not fit together")
    return NGrams(_costs(unigrams), sizes, _costs(backoffs), followers, _costs(costs), pairs)


def _rounded(costs: Floats) -> NDArray[np.uint8]:
    return np.clip(np.round(costs / _STEP), 0, 255).astype(np.uint8)


def _costs(steps: Ints) -> Floats:
    return steps.astype(np.float64) * _STEP


def counted(
    sentences: Iterable[Sequence[int]], words: int, *, least: tuple[int, int] = (1, 1)
) -> NGrams:
    """Sentences of words from 1 to `words` - 1, at least one -> their n-grams.

    Pairs and triples of words that occur less often than `least`, which may not fall, are left to
    what is shorter.
    """
    stream = np.array([word for said in sentences for word in (BORDER, *said, BORDER)], np.int64)
    pairs = stream[:-1] * words + stream[1:]
    # The end of one sentence and the beginning of the next are no pair.
    pair, occur2 = np.unique(pairs[pairs > 0], return_counts=True)
    inside = stream[1:-1] != BORDER
    triple, often3 = np.unique((pairs[:-1] * words + stream[2:])[inside], return_counts=True)
    # Short contexts are asked where the long ones are new: how many words stand before counts.
    end2, end1 = triple % words**2, pair % words
    before = np.bincount(np.searchsorted(pair, end2), minlength=len(pair))
    often2 = np.where(pair < words, occur2, before)
    often1 = np.bincount(end1, minlength=words)
    first = _smoothed(np.zeros(words, np.int64), often1, np.full(words, 1 / words))
    second = _smoothed(pair // words, often2, first[end1])
    under = second[np.searchsorted(pair, end2)]
    third = _smoothed(np.unique(triple // words, return_inverse=True)[1], often3, under)
    kept2, kept3 = occur2 >= least[0], often3 >= least[1]
    pair, second, end1 = pair[kept2], second[kept2], end1[kept2]
    triple, third, under = triple[kept3], third[kept3], under[kept3]

    contexts, place = np.unique(triple // words, return_inverse=True)
    sizes = np.concatenate((np.bincount(pair // words, minlength=words + 1), np.bincount(place)))
    place = np.concatenate((pair // words, words + 1 + place))
    given, below = np.concatenate((second, third)), np.concatenate((first[end1], under))
    left = 1 - np.bincount(place, given, len(sizes))
    backoffs = -np.log(left / (1 - np.bincount(place, below, len(sizes))))
    followers = np.concatenate((end1, triple % words))
    found = np.searchsorted(pair, contexts)
    return NGrams(-np.log(first), sizes, backoffs, followers, -np.log(given), found)


def _smoothed(contexts: Ints, often: Ints, under: Floats) -> Floats:
    """How probable each word is in its context [N]: less than its share of what was counted there,
    and the rest in the proportion of the shorter context, `under` [N].
    """
    kinds = np.minimum(often, _KINDS)
    ones, twos, threes, fours = (max(1, int((often == n).sum())) for n in range(1, _KINDS + 2))
    base = ones / (ones + 2 * twos)
    rates = np.array([1.0, twos / ones, threes / twos, fours / threes])
    # Something must be left of what was counted, and something for the shorter context.
    discounts = np.arange(4) - np.arange(1, 5) * base * rates
    taken = discounts.clip([0, 0.05, 0.1, 0.15], [0, 0.95, 1.9, 2.85])[kinds]
    total = np.bincount(contexts, often)[contexts]
    rest = np.bincount(contexts, taken)[contexts]
    smoothed: Floats = (often - taken + rest * under) / total
    return smoothed
