"""Signals that a model must hear whole: waiting for them in a stream, blocks of long ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from alm_cli.nn.state import State


def heard(part: nn.Module, wave: Tensor, state: State | None, size: int | None) -> Tensor:
    """wave [B, C, T] -> [B, C, n], what can be answered now.

    In a stream these are complete blocks of `size` samples, and at its last call all that is left;
    without a size nothing is answered before.
    """
    if state is None:
        return wave
    waiting = state.get(part, _Waiting)
    # A copy: a view would keep all that the caller has alive.
    waiting.pieces.append(wave.clone())
    waiting.length += wave.shape[-1]
    ready = waiting.length
    if not state.last:
        ready = ready // size * size if size else 0
    if ready:
        whole = torch.cat(waiting.pieces, -1)
        waiting.pieces = [whole[..., ready:].clone()]
        waiting.length -= ready
        wave = whole
    state.put(part, waiting)
    return wave[..., :ready]


class _Waiting:
    """Pieces of a signal; joined once, when they are answered."""

    def __init__(self) -> None:
        self.pieces: list[Tensor] = []
        self.length = 0


def answered(step: Callable[[Tensor], Tensor], wave: Tensor, size: int) -> Tensor:
    """wave [B, C, T] -> the outputs of `step` on blocks of `size` samples, joined at their ends.

    Blocks know nothing of one another. On a processor rows neither: that is as fast, and a row
    cannot depend, not even in its last bit, on the rows beside it.
    """
    rows = torch.split(wave, 1) if wave.device.type == "cpu" else (wave,)
    made = [torch.cat([step(block) for block in torch.split(row, size, -1)], -1) for row in rows]
    return torch.cat(made)


def standardised(wave: Tensor, eps: float = 1e-7) -> Tensor:
    """wave [B, C, T] -> [B, C, T], each row with mean 0 and variance 1 (arXiv:2006.11477)."""
    if not wave.shape[-1]:
        return wave
    exact = wave.double()
    variance, mean = torch.var_mean(exact, -1, correction=0, keepdim=True)
    return ((exact - mean) / torch.sqrt(variance + eps)).to(wave.dtype)
