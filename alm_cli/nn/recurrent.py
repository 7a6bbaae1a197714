"""Recurrence along the frames of a codec (EnCodec, arXiv:2210.13438)."""

from __future__ import annotations

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
        y, memory = self.lstm(x.mT, memory)
        if state is not None:
            state.put(self, memory)
        return x + y.mT
