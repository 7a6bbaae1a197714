"""What the stateful parts of one stream remember between calls (explicit, typed, forkable)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")


class State:
    """The memory of one stream: convolution context, overlap tails, recurrent memory.

    `state=None` in a part's `forward` means "this is the whole signal"; with a `State` the same
    `forward` continues where the last call ended. `last` is set by the driver before the final
    call, for parts that pad the end of a signal.
    """

    __slots__ = ("_memory", "last")

    def __init__(self) -> None:
        self._memory: dict[nn.Module, Any] = {}
        self.last = False

    def get(self, part: nn.Module, first: Callable[[], T]) -> T:
        """What `part` remembered, or `first()` when this is its first call."""
        return self._memory[part] if part in self._memory else first()

    def knows(self, part: nn.Module) -> bool:
        """Whether `part` has remembered something in this stream."""
        return part in self._memory

    def put(self, part: nn.Module, value: object) -> None:
        """Let `part` remember `value` until its next call."""
        self._memory[part] = value
