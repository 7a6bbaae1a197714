"""The flat pattern: one code a step, frame after frame, coarse before fine (arXiv:2209.03143).

A time by codebook matrix of F frames and K codebooks takes K * F steps: exact, since every code
knows all before it, and K times as dear as any other order.
"""

from __future__ import annotations

from torch import Tensor


def flatten(codes: Tensor) -> Tensor:
    """codes [B, K, F] -> steps [B, F * K]: all codes of a frame, then those of the next."""
    return codes.mT.flatten(1)


def unflatten(steps: Tensor, books: int) -> Tensor:
    """steps [B, F * K] -> codes [B, K, F]; the inverse of `flatten`."""
    assert steps.shape[1] % books == 0, "a frame is not whole"
    return steps.view(len(steps), steps.shape[1] // books, books).mT
