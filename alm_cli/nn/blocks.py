"""Driving a causal model over whole signals block by block, with the result of a single call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from alm_cli.nn.state import State


def in_blocks(step: Callable[[Tensor, State], Tensor], x: Tensor, size: int) -> Tensor:
    """x [B, ..., T] -> the outputs of `step`, joined along their last axis.

    Row by row and `size` at a time: a processor's cache holds a few megabytes, and a batch or a
    long signal that leaves it takes two to three times as long. It also makes the result of a row
    independent of the rows beside it, to the last bit.
    """
    rows = []
    for row in torch.split(x, 1):
        state, pieces, made = State(), torch.split(row, size, -1), []
        for index, piece in enumerate(pieces, 1):
            state.last = index == len(pieces)
            made.append(step(piece, state))
        rows.append(torch.cat(made, -1))
    return torch.cat(rows)
