"""The delay pattern: codebook k lags, so that one step predicts a code of each (arXiv:2306.05284).

A time by codebook matrix of F frames takes F steps and as many more as the last codebook lags.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor


def delay(codes: Tensor, lags: Sequence[int], fill: int) -> Tensor:
    """codes [B, K, F] -> [B, K, F + max(lags)]: book k begins `lags[k]` steps later."""
    batch, books, frames = codes.shape
    assert books == len(lags), "one lag for each codebook"
    steps = codes.new_full((batch, books, frames + max(lags)), fill)
    for book, lag in enumerate(lags):
        steps[:, book, lag : lag + frames] = codes[:, book]
    return steps


def undelay(steps: Tensor, lags: Sequence[int]) -> Tensor:
    """steps [B, K, F + max(lags)] -> codes [B, K, F]; the inverse of `delay`."""
    frames = steps.shape[2] - max(lags)
    assert frames >= 0, "fewer steps than the last codebook lags"
    books = [steps[:, book, lag : lag + frames] for book, lag in enumerate(lags)]
    return torch.stack(books, 1)


def undelayed(steps: Iterable[Tensor], lags: Sequence[int]) -> Iterator[Tensor]:
    """Codes [B, K] of steps one by one -> of frames, each as soon as it is whole."""
    window: deque[Tensor] = deque(maxlen=max(lags) + 1)
    for codes in steps:
        window.append(codes)
        if len(window) == window.maxlen:
            yield torch.stack([window[lag][:, book] for book, lag in enumerate(lags)], 1)
