"""What the stateful parts of one stream remember between calls (explicit, typed, forkable)."""

from __future__ import annotations

from collections.abc import Callable, ItemsView
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class State:
    """The memory of one stream: convolution context, overlap tails, recurrent memory.

    `state=None` in a part's `forward` means "this is the whole signal"; with a `State` the same
    `forward` continues where the last call ended. A part that looks ahead returns less than it was
    given and owes the rest until `last`, which the driver sets before the final call.

    `side` has what decoding needs besides the codes of this call (name -> [n, B], time first):
    a codec's `encode` puts it there, its `decode` finds it there. `noise_seed` is for decoders
    that add noise: None means that they shall not.
    """

    __slots__ = ("_memory", "last", "noise_seed", "side")

    def __init__(self, noise_seed: int | None = None) -> None:
        self._memory: dict[nn.Module, Any] = {}
        self.last = False
        self.noise_seed = noise_seed
        self.side: dict[str, Tensor] = {}

    def get(self, part: nn.Module, first: Callable[[], T]) -> T:
        """What `part` remembered, or `first()` when this is its first call."""
        return self._memory[part] if part in self._memory else first()

    def knows(self, part: nn.Module) -> bool:
        """Whether `part` has remembered something in this stream."""
        return part in self._memory

    def put(self, part: nn.Module, value: object) -> None:
        """Let `part` remember `value` until its next call."""
        self._memory[part] = value

    def memories(self) -> ItemsView[nn.Module, Any]:
        """Every part that remembers something, and what."""
        return self._memory.items()

    def reorder(self, rows: Tensor) -> None:
        """Go on with other rows: row i continues what row rows[i] was (beams, samples).

        rows [R] may repeat some rows and leave out others; all parts remember in a way that can be
        reordered. Rows that share a recording stay beside one another, equally many of each.
        """
        for value in self._memory.values():
            value.reorder(rows)

    def rewind(self, steps: int) -> None:
        """Forget the last steps of a sequence; all parts remember in a way that can be cut back."""
        for value in self._memory.values():
            value.rewind(steps)

    def fork(self) -> State:
        """The same memory for a stream that goes on apart from this one."""
        other = State(self.noise_seed)
        other._memory = {part: value.fork() for part, value in self._memory.items()}
        return other

    def aligned(self, part: nn.Module, x: Tensor, length: int) -> Tensor:
        """x [B, C, T] -> the oldest `length` of what came for `part` and has not left yet."""
        if not self.knows(part) and x.shape[-1] == length:
            return x
        x = torch.cat((self.get(part, lambda: x[..., :0]), x), -1)
        self.put(part, x[..., length:].clone())
        return x[..., :length]
