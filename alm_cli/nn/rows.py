"""Streams that go on side by side for one call, as the rows of a batch, and apart again.

Only such streams go together whose parts remember things of the same shape and at the same place:
then nothing is filled up, and no row can hear of its neighbours.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from alm_cli.nn.attention import KVCache
from alm_cli.nn.state import State


def kind_of(state: State) -> Hashable:
    """What two streams must have in common to go together."""
    return state.last, state.noise_seed, tuple((part, _kind(x)) for part, x in state.memories())


def together(states: Sequence[State]) -> State:
    """One stream of which these are the rows; they are of one kind and have a row each."""
    first = states[0]
    joined = State(first.noise_seed)
    joined.last = first.last
    for part, _ in first.memories():
        joined.put(part, _joined([state.get(part, lambda: None) for state in states]))
    return joined


def apart(joined: State, states: Sequence[State]) -> None:
    """Let each stream remember its row of `joined`, and have its column of what lies beside."""
    for row, state in enumerate(states):
        for part, value in joined.memories():
            state.put(part, _row(value, row))
        state.side = {name: beside[:, row : row + 1] for name, beside in joined.side.items()}


def _kind(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, KVCache):
        return value.length, _kind(value.kept)
    if isinstance(value, tuple | list):
        return tuple(map(_kind, value))
    if hasattr(value, "__dict__"):
        return type(value), tuple(map(_kind, vars(value).values()))
    return value


def _joined(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, KVCache):
        return first.holding(torch.cat([value.kept for value in values], 1))
    return _rebuilt(first, [_joined(parts) for parts in zip(*map(_parts, values), strict=True)])


def _row(value: Any, row: int) -> Any:
    if isinstance(value, Tensor):
        return value[row : row + 1]
    if isinstance(value, KVCache):
        return value.holding(value.kept[:, row : row + 1])
    return _rebuilt(value, [_row(part, row) for part in _parts(value)])


def _parts(value: Any) -> list[Any]:
    """What a value is made of; nothing where it is the same for all rows, such as a number."""
    if isinstance(value, tuple | list):
        return list(value)
    return list(vars(value).values()) if hasattr(value, "__dict__") else []


def _rebuilt(like: Any, parts: list[Any]) -> Any:
    """A value of the same type with other parts."""
    if isinstance(like, tuple | list):
        return type(like)(parts)
    if not hasattr(like, "__dict__"):
        return like
    made = copy(like)
    vars(made).update(zip(vars(like), parts, strict=True))
    return made
