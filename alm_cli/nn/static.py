"""A cache of keys and values that stays where it is, so that one step can be recorded and replayed.

Its size does not grow: keys of positions that are not written yet are hidden by a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alm_cli.nn.attention import KVCache


class Place:
    """The position that is written next, for all layers: [1], and what hides those after it."""

    def __init__(self, at: int, positions: int, like: Tensor) -> None:
        self.at = torch.full((1,), at, dtype=torch.long, device=like.device)
        self.hidden = like.new_full((1, 1, 1, positions), -torch.inf)
        self.hidden[..., :at] = 0
        self._next = at

    def advance(self) -> None:
        """Let the next position be written and seen."""
        self.at.fill_(self._next)
        self.hidden[..., self._next] = 0
        self._next += 1


class StaticCache(KVCache):
    """Takes over what a cache without a window keeps, with room for `positions` in all."""

    def __init__(self, cache: KVCache, place: Place, positions: int) -> None:
        super().__init__(None)
        kept = cache.kept
        self._buffer = kept.new_zeros(*kept.shape[:3], positions, kept.shape[4])
        self._buffer[..., : kept.shape[3], :] = kept
        self._begin, self._end, self.length = 0, positions, cache.length
        self._place, self.hidden = place, place.hidden

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys, values [B, H, 1, D] of the next position -> those of all, of which some hide."""
        for buffer, new in zip(self._buffer.unbind(), (keys, values), strict=True):
            buffer.index_copy_(2, self._place.at, new)
        return self._buffer[0], self._buffer[1]

    def reorder(self, rows: Tensor) -> None:
        """As `KVCache`; in the same memory, if as many rows remain."""
        chosen = self._buffer.index_select(1, rows)
        if chosen.shape == self._buffer.shape:
            self._buffer.copy_(chosen)
        else:
            self._buffer = chosen
