"""When each token is said, from where the model looks while it writes it (arXiv:2212.04356, 5.4).

Dynamic time warping is that of Sakoe and Chiba (1978), with `openai-whisper`'s rule for ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_MEDIAN_WIDTH = 7


@dataclass
class TimedWord:
    """A word, its tokens, and when it is said, in seconds of the window; punctuation merges in."""

    text: str
    start_s: float
    end_s: float
    probability: float
    tokens: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def attention_map(scores: Tensor, positions: int) -> Tensor:
    """scores [H, S, P] before the softmax -> [S, positions]: how much each token looks where.

    Heads count alike: each is brought to mean 0 and variance 1 over the tokens, then smoothed.
    """
    weights = scores[..., :positions].float().softmax(-1)
    std, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    # A head that looks the same way whatever is said, says nothing.
    even = ((weights - mean) / std).nan_to_num(0.0, 0.0, 0.0)
    return median_filter(even, _MEDIAN_WIDTH).mean(0)


def median_filter(x: Tensor, width: int) -> Tensor:
    """x [..., T] -> [..., T]: medians of `width` values around each, the ends mirrored.

    What is too short to be mirrored stays as it is.
    """
    side = width // 2
    if x.shape[-1] <= side:
        return x
    padded = F.pad(x.flatten(0, -2)[None], (side, side), mode="reflect")
    return padded.unfold(-1, width, 1).sort(-1).values[..., side].view(x.shape)


def warp(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """cost [N, M] -> rows and columns [K] of the cheapest way from corner to corner.

    Each step goes to the next row, the next column, or both. _compat_ties: both is chosen where it
    is cheaper than either alone, the next row where that is cheaper than the others, and else the
    next column, even if it is dearer. Totals are rounded to float32, as there.
    """
    totals = _totals(cost)
    both, down, right = totals[:-2, :-1], totals[1:-1, :-1], totals[1:-1, 1:]
    steps = np.where(down < np.minimum(both, right), 1, 2)  # [N + M - 1, N], by diagonals
    steps[both < np.minimum(down, right)] = 0
    way = []
    row, column = cost.shape[0] - 1, cost.shape[1] - 1
    while row >= 0 and column >= 0:
        way.append((row, column))
        step = steps[row + column, row]
        row, column = row - (step != 2), column - (step != 1)
    path = np.array(way[::-1], dtype=np.int64).reshape(-1, 2)
    return path[:, 0], path[:, 1]


def _totals(cost: NDArray[np.float64]) -> NDArray[np.float32]:
    """cost [N, M] -> the cost of the way to each cell: [N + M + 1, N + 1].

    Row d has the cells of diagonal d, of which none depends on another; the first row and column
    of the cells lie outside, where no way goes.
    """
    rows, columns = cost.shape
    skewed = np.full((rows + columns + 1, rows), np.inf)
    places = np.arange(rows)
    skewed[places[:, None] + np.arange(columns) + 2, places[:, None]] = cost
    totals = np.full((rows + columns + 1, rows + 1), np.inf, dtype=np.float32)
    totals[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        both, down = totals[diagonal - 2, :-1], totals[diagonal - 1, :-1]
        right = totals[diagonal - 1, 1:]
        single = np.where(down < np.minimum(both, right), down, right)
        cheapest = np.where(both < np.minimum(down, right), both, single)
        np.add(skewed[diagonal], cheapest, out=totals[diagonal, 1:], casting="same_kind")
    return totals


def token_starts(attention: Tensor) -> NDArray[np.int64]:
    """attention [N, P] -> at which position each of N tokens begins to be said."""
    rows, columns = warp(-attention.double().cpu().numpy())
    return columns[np.diff(rows, prepend=-1) > 0]


def timed_words(
    words: Sequence[str],
    tokens: Sequence[list[int]],
    starts_s: NDArray[np.float64],
    probabilities: Sequence[float],
) -> list[TimedWord]:
    """Words of a window from the times [N + 1] of their N tokens and of what follows them."""
    edges = np.cumsum([0, *map(len, tokens)])
    return [
        TimedWord(
            text=word,
            start_s=float(starts_s[begin]),
            end_s=float(starts_s[end]),
            probability=float(np.mean(probabilities[begin:end])),
            tokens=list(group),
        )
        for word, group, begin, end in zip(words, tokens, edges, edges[1:], strict=False)
    ]


def merge_punctuation(words: list[TimedWord], prepended: str, appended: str) -> None:
    """Join the signs in `prepended` to the word after them, those in `appended` to the one before.

    In place: the words that they were become empty.
    """
    following = len(words) - 1
    for place in range(len(words) - 2, -1, -1):
        sign = words[place]
        if sign.text.startswith(" ") and sign.text.strip() in prepended:
            _join(words[following], sign, words[following], sign)
        else:
            following = place
    previous = 0
    for place in range(1, len(words)):
        if not words[previous].text.endswith(" ") and words[place].text in appended:
            _join(words[previous], words[previous], words[place], words[place])
        else:
            previous = place


def _join(into: TimedWord, first: TimedWord, second: TimedWord, emptied: TimedWord) -> None:
    """Let one of two words have the text and tokens of both, the other none."""
    into.text, into.tokens = first.text + second.text, first.tokens + second.tokens
    emptied.text, emptied.tokens = "", []
