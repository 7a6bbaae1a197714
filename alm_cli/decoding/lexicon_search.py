"""Log-probabilities of symbols -> words of a lexicon, by their sounds and by their neighbours.

Tokens walk through a tree of all words as their symbols are heard (Young, Russell, Thornton, "Token
passing", 1989), under the topology of connectionist temporal classification: a blank may stand
between two symbols, and must between equal ones, also where one ends a word and the next begins
another. What a word costs after the last two is counted as soon as it has been said; until then,
what the commonest word that may still come of it costs alone. The best path counts, not their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error

import numpy as np
from numpy.typing import NDArray

from alm_cli.decoding.ctc import Spike
from alm_cli.decoding.hmm import Logprobs, chain, viterbi
from alm_cli.decoding.ngrams import BORDER, Floats, Ints, NGrams, restored
from alm_cli.errors import FormatError

_BLANK = 0
_NEVER = -1000.0
_TREE = ("symbols", "children", "endings", "words")
_TABLES = (*("texts", *_TREE, "unigrams", "sizes", "backoffs", "followers", "costs", "pairs"),)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What counts how much, and how much is tried; all in natural logarithms.

    A path gains `word` with each word and loses `blank` with each frame of a blank (models are too
    sure of them), and what words cost counts `weight`. Symbols below `least` are not tried where
    others are above, nor paths `beam` below the best; of these, `most` are kept.
    """

    weight: float = 1.0
    word: float = 0.0
    blank: float = 2.0
    beam: float = 12.0
    most: int = 700
    least: float = -6.0


@dataclass(frozen=True, slots=True)
class Found:
    """A word, its symbols with their frames, and how probable its frames are (logarithm)."""

    text: str
    spikes: tuple[Spike, ...]
    logprob: float


class Words:
    """Words as they are written, the tree of their symbols, and what they cost.

    The nodes of the tree come by depth, those of one parent together: `symbols` [N] lead to them,
    `children` [N] follow each, and `endings` [N] of `words` are complete there. The root is first.
    The word 0 is none (`ngrams.BORDER`).
    """

    def __init__(
        self, texts: Sequence[str], tree: Mapping[str, NDArray[np.generic]], ngrams: NGrams
    ) -> None:
        self.texts, self.ngrams = texts, ngrams
        self.symbols, self.children, self.endings, self.words = (
            tree[name].astype(np.int64) for name in _TREE
        )
        count = len(self.symbols)
        self.first = np.cumsum(self.children) - self.children + 1
        self.begins = np.cumsum(self.endings) - self.endings
        fits = (
            0 < count == len(self.children) == len(self.endings)
            and self.children.sum() == count - 1
            and bool((self.first > np.arange(count)).all())
            and self.endings.sum() == len(self.words)
            and len(texts) == len(ngrams.unigrams)
            and self.endings[0] == self.symbols[0] == 0
            and bool((self.children + self.endings)[1:].all())
            and not (self.symbols[1:] == _BLANK).any()
            and not ((self.words <= BORDER) | (self.words >= len(texts))).any()
        )
        if not fits:
            raise FormatError("words: the tree does not fit its words")
        self.parents = np.repeat(np.arange(count), self.children)
        owners = np.repeat(np.arange(count), self.endings)
        self.cheapest = np.full(count, -_NEVER)
        np.minimum.at(self.cheapest, owners, ngrams.cheapest()[self.words])
        self.ahead = self._ahead(owners)

    @classmethod
    def load(cls, path: Path) -> Words:
        """Read what `recipes/words.py` has made. FormatError: it is nothing of the kind."""
        try:
            # Opened here: numpy leaves files open that it cannot read.
            with path.open("rb") as data:
                file = np.load(data, allow_pickle=False)
                arrays = {name: file[name] for name in _TABLES}
            texts = arrays["texts"].tobytes().decode().split("\n")
            return cls(texts, arrays, restored(arrays))
        except (BadZipFile, ValueError, KeyError, OSError, EOFError, IndexError, error) as wrong:
            raise FormatError(f"{path}: not a list of words: {wrong}") from wrong

    def pronunciation(self, node: int) -> list[int]:
        """The symbols from the root to a node."""
        found = []
        while node:
            found.append(int(self.symbols[node]))
            node = int(self.parents[node - 1])
        return found[::-1]

    def favouring(self, ways: Mapping[str, Sequence[int]], cost: float) -> Words:
        """These words and the symbols of each too; wherever they stand, they cost that at most."""
        if not ways:
            return self
        texts = list(dict.fromkeys((*self.texts, *ways)))
        numbers = {text: number for number, text in enumerate(texts)}
        wanted = {numbers[text]: tuple(way) for text, way in ways.items()}
        owners = np.repeat(np.arange(len(self.symbols)), self.endings)
        places = zip(owners.tolist(), self.words.tolist(), strict=True)
        known = ((tuple(self.pronunciation(node)), word) for node, word in places)
        spoken = {*known, *((way, word) for word, way in wanted.items())}
        ngrams = self.ngrams.favouring(list(wanted), len(texts), cost)
        return Words(texts, grown(sorted(spoken)), ngrams)

    def _ahead(self, owners: Ints) -> Floats:
        """What the commonest word below each node costs without a context [N]; 0 at the root."""
        best = np.full(len(self.symbols), inf)
        np.minimum.at(best, owners, self.ngrams.unigrams[self.words])
        edges = [0, 1]
        while edges[-1] < len(best):
            edges.append(int(self.first[edges[-1]]))
        for begin, end in zip(edges[-2:0:-1], edges[:1:-1], strict=True):
            np.minimum.at(best, self.parents[begin - 1 : end - 1], best[begin:end])
        best[0] = 0
        return best


def grown(spoken: Iterable[tuple[Sequence[int], int]]) -> dict[str, NDArray[np.generic]]:
    """Symbols and the word that they say -> the tree of all, as `Words` takes it."""
    children: list[dict[int, int]] = [{}]
    endings: list[list[int]] = [[]]
    for symbols, word in spoken:
        node = 0
        for symbol in symbols:
            node = children[node].setdefault(symbol, len(children))
            if node == len(children):
                children.append({})
                endings.append([])
        endings[node].append(word)
    order, said = [0], [0]
    for node in order:
        for symbol in sorted(children[node]):
            order.append(children[node][symbol])
            said.append(symbol)
    return {
        "symbols": np.array(said, np.uint8),
        "children": np.array([len(children[node]) for node in order], np.uint8),
        "endings": np.array([len(endings[node]) for node in order], np.uint8),
        "words": np.array([word for node in order for word in endings[node]], np.uint16),
    }


def search(logprobs: Logprobs, words: Words, how: Weights = Weights()) -> list[Found]:
    """logprobs [F, S] -> the words of the most probable path.

    Exact among the paths that `how` leaves. A recording that ends within a word loses that word.
    """
    rows, starts = _heard(logprobs, how)
    going = _Search(words, how)
    for frame in range(len(rows)):
        going.push(rows[frame])
    said = going.finish()
    symbols = [words.pronunciation(node) for _, node in said]
    states = chain([symbol for one in symbols for symbol in one], _BLANK)
    path = viterbi(rows, states, likely=True)
    if path is None or not said:
        return []
    edges = np.append(starts, len(logprobs))
    spans = zip(*path.spans(), strict=True)
    found = []
    for (word, _), one in zip(said, symbols, strict=True):
        places = [next(spans) for _ in one]
        found.append(
            Found(
                words.texts[word],
                tuple(
                    Spike(s, int(edges[a]), int(edges[b]), exp(float(path.logprobs[a:b].max())))
                    for s, (a, b) in zip(one, places, strict=True)
                ),
                float(path.logprobs[places[0][0] : places[-1][1]].sum()),
            )
        )
    return found


def _heard(logprobs: Logprobs, how: Weights) -> tuple[Floats, Ints]:
    """logprobs [F, S] -> rows [R, S] in which what is not tried is impossible, and the frame where
    each begins [R]; frames where only the blank is tried are one row together.
    """
    rows = logprobs.astype(np.float64)
    rows[:, _BLANK] -= how.blank
    blanks = np.maximum(rows[:, _BLANK], _NEVER)
    rows[rows < np.minimum(rows.max(1, keepdims=True, initial=-inf), how.least)] = -inf
    # Silence is never given up, so that no frame ends all paths.
    rows[:, _BLANK] = blanks
    quiet = rows[:, 1:].max(1, initial=-inf) == -inf
    begins = ~quiet
    begins[1:] |= ~quiet[:-1]
    begins[:1] = True
    starts = np.flatnonzero(begins)
    joined = rows[starts]
    if len(starts):
        joined[:, _BLANK] = np.add.reduceat(rows[:, _BLANK], starts)
    return joined, starts


class _Search:
    """The paths that are followed, while the recording is being heard.

    A token is a node of the tree in a context; it knows the best path that has just `said` its
    symbol, the best that has been `silent` since, and the last word of either (its record, or -1).
    Tokens are in the order of their keys.
    """

    def __init__(self, words: Words, how: Weights) -> None:
        self._words, self._how = words, how
        # What is known to come at a node costs there; the rest follows where it is known.
        self._fall = how.weight * words.ahead
        self._step = np.concatenate(([0.0], self._fall[1:] - self._fall[words.parents]))
        # No word that ends here can gain more.
        self._hope = self._fall + (how.word - how.weight * words.cheapest)
        self._starts = np.arange(words.children[0]) + 1
        self._records: list[tuple[Ints, Ints, Ints]] = []
        self._recorded = 0
        self._node = np.zeros(1, np.int64)
        self._context = np.array([words.ngrams.first])
        self._said, self._silent = np.full(1, -inf), np.zeros(1)
        self._said_from, self._silent_from = np.full(1, -1), np.full(1, -1)

    def push(self, row: Floats) -> None:
        """row [S] of the next frame."""
        words = self._words
        both, origin = self._best()
        said = self._said + row[words.symbols[self._node]]
        silent = both + row[_BLANK]
        most = float(row[1:].max())
        if most > -inf:
            floor = max(float(said.max()), float(silent.max())) - self._how.beam
            able = (both + most >= floor).nonzero()[0]
            inner = self._inner(able[self._node[able] > 0], row, both, origin, floor)
            outer = self._outer(row, both, origin, floor)
            fresh = [np.concatenate(pair) for pair in zip(inner, outer, strict=True)]
            self._merge(said, silent, origin, fresh)
        else:
            self._said, self._silent, self._silent_from = said, silent, origin

    def _inner(
        self, able: Ints, row: Floats, both: Floats, origin: Ints, floor: float
    ) -> list[NDArray[Any]]:
        """Tokens a symbol further within their words: nodes, contexts, scores, origins."""
        words = self._words
        nodes = self._node[able]
        counts = words.children[nodes]
        which = able.repeat(counts)
        offsets = words.first[nodes] - counts.cumsum() + counts
        kids = np.arange(len(which)) + offsets.repeat(counts)
        symbols = words.symbols[kids]
        heard = row[symbols] - self._step[kids]
        good = (both[which] + heard >= floor).nonzero()[0]
        which, kids, heard = which[good], kids[good], heard[good]
        again = symbols[good] == words.symbols[self._node[which]]
        scores = heard + np.where(again, self._silent[which], both[which])
        from_ = np.where(again, self._silent_from[which], origin[which])
        return [kids, self._context[which], scores, from_]

    def _outer(self, row: Floats, both: Floats, origin: Ints, floor: float) -> list[NDArray[Any]]:
        """Tokens at the first symbol of a further word: nodes, contexts, scores, origins."""
        words, nodes = self._words, self._node
        kids = self._starts[row[words.symbols[self._starts]] > -inf]
        symbols = words.symbols[kids]
        heard = row[symbols] - self._step[kids]
        hope = both + self._hope[nodes] + heard.max(initial=-inf)
        which, word, gains, after = self._complete((hope >= floor).nonzero()[0])
        root = (nodes == 0).nonzero()[0]
        which, word = np.concatenate((which, root)), np.append(word, np.full(len(root), BORDER))
        gains, after = np.append(gains, np.zeros(len(root))), np.append(after, self._context[root])
        again = symbols == words.symbols[nodes[which]][:, None]
        scores = np.where(again, self._silent[which][:, None], both[which][:, None])
        scores += gains[:, None] + heard
        ends, places = np.nonzero(scores >= floor)
        score, context, kid = scores[ends, places], after[ends], kids[places]
        keys = context * len(words.symbols) + kid
        order = np.lexsort((-score, keys))
        ordered = keys[order]
        different = np.ones(len(order), np.bool_)
        different[1:] = ordered[1:] != ordered[:-1]
        best = order[different]
        ends = ends[best]
        before = np.where(
            again[ends, places[best]], self._silent_from[which[ends]], origin[which[ends]]
        )
        from_ = np.where(word[ends] == BORDER, -1, self._recorded + np.arange(len(ends)))
        self._records.append((before, word[ends], nodes[which[ends]]))
        self._recorded += len(ends)
        return [kid[best], context[best], score[best], from_]

    def _complete(self, tokens: Ints) -> tuple[Ints, Ints, Floats, Ints]:
        """All words that end at tokens: whose they are, the words, what they gain, the contexts
        after them.
        """
        words, nodes = self._words, self._node[tokens]
        counts = words.endings[nodes]
        which = tokens.repeat(counts)
        offsets = words.begins[nodes] - counts.cumsum() + counts
        word = words.words[np.arange(len(which)) + offsets.repeat(counts)]
        costs, after = words.ngrams.step(self._context[which], word)
        gains = self._fall[self._node[which]] + (self._how.word - self._how.weight * costs)
        return which, word, gains, after

    def _merge(self, said: Floats, silent: Floats, origin: Ints, fresh: list[NDArray[Any]]) -> None:
        """The tokens that stay and the new ones, without those that fall below the beam."""
        node, context, score, from_ = fresh
        count = len(self._words.symbols)
        own, keys = self._context * count + self._node, context * count + node
        places = np.minimum(own.searchsorted(keys), len(own) - 1)
        old = own[places] == keys
        at, better = places[old], score[old] > said[places[old]]
        said_from = self._said_from.copy()
        said[at[better]], said_from[at[better]] = score[old][better], from_[old][better]
        new = ~old
        keys = np.concatenate((own, keys[new]))
        said = np.concatenate((said, score[new]))
        silent = np.concatenate((silent, np.full(int(new.sum()), -inf)))
        said_from = np.concatenate((said_from, from_[new]))
        silent_from = np.concatenate((origin, from_[new]))
        best = np.maximum(said, silent)
        floor = float(best.max()) - self._how.beam
        if len(best) > self._how.most:
            floor = max(floor, float(np.partition(best, -self._how.most)[-self._how.most]))
        kept = (best >= floor).nonzero()[0]
        kept = kept[np.argsort(keys[kept])]
        self._context, self._node = np.divmod(keys[kept], count)
        self._said, self._silent = said[kept], silent[kept]
        self._said_from, self._silent_from = said_from[kept], silent_from[kept]

    def finish(self) -> list[tuple[int, int]]:
        """The words of the best path that ends with one, and the nodes where they end."""
        both, origin = self._best()
        which, word, gains, after = self._complete(np.flatnonzero(both > -inf))
        root = np.flatnonzero(self._node == 0)
        scores = np.append(both[which] + gains, both[root])
        after = np.append(after, self._context[root])
        costs, _ = self._words.ngrams.step(after, np.full(len(after), BORDER))
        scores -= self._how.weight * costs
        if not len(scores):
            # Within a word: what was said before it.
            return self._back(int(origin[both.argmax()]))
        end = int(scores.argmax())
        if end >= len(which):
            return []
        last = int(which[end])
        return [*self._back(int(origin[last])), (int(word[end]), int(self._node[last]))]

    def _best(self) -> tuple[Floats, Ints]:
        """The better path of each token, and the last word of it."""
        loud = self._said > self._silent
        both = np.where(loud, self._said, self._silent)
        return both, np.where(loud, self._said_from, self._silent_from)

    def _back(self, record: int) -> list[tuple[int, int]]:
        """The words of a path up to a record, and the nodes where they end."""
        before, words, nodes = map(np.concatenate, zip(*self._records, strict=True))
        found = []
        while record >= 0:
            found.append((int(words[record]), int(nodes[record])))
            record = int(before[record])
        return found[::-1]
