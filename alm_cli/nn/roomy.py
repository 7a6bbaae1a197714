"""A cache of keys and values whose size is known before: it takes its memory once, and no more."""

from __future__ import annotations

import torch
from torch import Tensor

from alm_cli.nn.attention import KVCache


class RoomyCache(KVCache):
    """Room for so many positions, in a number type of its own where one is given.

    Positions beyond them are welcome, and cost another copy.
    """

    def __init__(self, positions: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(None)
        self._positions, self._dtype = positions, dtype

    def _moved(self, new: Tensor) -> Tensor:
        """A buffer that begins with what is kept and has room for all that is to come."""
        kept = self._end - self._begin
        room = max(self._positions, 2 * (kept + new.shape[2]) if kept else new.shape[2])
        shape = (2, *new.shape[:2], room, new.shape[3])
        buffer = new.new_empty(shape, dtype=self._dtype or new.dtype)
        if kept:
            buffer[..., :kept, :] = self.kept
        return buffer
