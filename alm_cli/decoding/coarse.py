"""The coarse-first pattern: all of the first codebook, then the others side by side (VALL-E).

A time by codebook matrix of F frames takes 2 * F steps and as many more as the last codebook lags:
fine codes see the coarse ones of all time (arXiv:2301.02111, 2306.05284), so the length is known
before the second half begins and no sound before the first has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alm_cli.decoding.delays import delay, undelay


def defer(codes: Tensor, lags: Sequence[int], fill: int) -> Tensor:
    """codes [B, K, F] -> [B, K, 2 * F + max(lags)]: fine book k waits for the end of the first.

    `lags` are those of the K - 1 fine books among themselves.
    """
    assert codes.shape[1] == len(lags) + 1 > 1, "one lag for each fine codebook"
    fine = delay(codes[:, 1:], lags, fill)
    frames = codes.shape[2]
    coarse = torch.cat([codes[:, :1], fine.new_full((len(codes), 1, fine.shape[2]), fill)], 2)
    waiting = fine.new_full((len(codes), len(lags), frames), fill)
    return torch.cat([coarse, torch.cat([waiting, fine], 2)], 1)


def undefer(steps: Tensor, lags: Sequence[int]) -> Tensor:
    """steps [B, K, 2 * F + max(lags)] -> codes [B, K, F]; the inverse of `defer`."""
    frames, rest = divmod(steps.shape[2] - max(lags), 2)
    assert frames >= 0 and not rest, "the halves are not of a length"
    return torch.cat([steps[:, :1, :frames], undelay(steps[:, 1:, frames:], lags)], 1)
