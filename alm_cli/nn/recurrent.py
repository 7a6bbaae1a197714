"""Recurrence along the frames of a codec (EnCodec, arXiv:2210.13438)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alm_cli.nn.state import State


class ResidualLSTM(nn.Module):
    """Long short-term memory in one direction, added to its input."""

    def __init__(self, dimension: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dimension, dimension, layers, batch_first=True)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, D, F] -> [B, D, F]."""
        if not x.shape[-1]:
            return x
        memory = None if state is None else state.get(self, lambda: None)
        if memory is not None:
            memory = tuple(part.transpose(0, 1).contiguous() for part in memory)
        y, memory = self.lstm(x.mT, memory)
        if state is not None:
            # Rows first, as in all that parts remember.
            state.put(self, tuple(part.transpose(0, 1) for part in memory))
        return x + y.mT


class ResidualTwoWayLSTM(nn.Module):
    """Long short-term memory in both directions, each added to the input (arXiv:2308.16692).

    Every frame depends on all others: a stream keeps its frames and gives all of them at its end.
    """

    def __init__(self, dimension: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dimension, dimension, layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, D, F] -> [B, 2 D, F]."""
        if state is not None:
            kept: list[Tensor] = [*state.get(self, list), x]
            state.put(self, [] if state.last else kept)
            x = torch.cat(kept, -1) if state.last else x[..., :0]
        if not x.shape[-1]:
            return torch.cat((x, x), 1)
        y = self.lstm(x.mT)[0].mT
        return y + torch.cat((x, x), 1)
