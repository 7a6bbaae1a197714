"""Signals cut into overlapping segments and faded into one another again (arXiv:2210.13438)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alm_cli.nn.state import State


class Segments(nn.Module):
    """x [B, C, T] -> segments of `length` samples, one every `stride`, as they become complete.

    The signal ends with one segment or two that are shorter: one begins at every multiple of
    `stride` that is less than T, even where the one before it reaches the end.
    """

    def __init__(self, length: int, stride: int) -> None:
        super().__init__()
        self.length, self.stride = length, stride

    def forward(self, x: Tensor, state: State | None = None) -> list[Tensor]:
        """x [B, C, T] -> the segments [B, C, up to length] that it completes."""
        last = state is None or state.last
        if state is not None:
            x = torch.cat((state.get(self, lambda: x[..., :0]), x), -1)
        begin, found = 0, []
        while begin + (1 if last else self.length) <= x.shape[-1]:
            found.append(x[..., begin : begin + self.length])
            begin += self.stride
        if state is not None:
            state.put(self, x[..., begin:].clone())
        return found


class OverlapAdd(nn.Module):
    """Segments -> x [B, C, T]: the mean of what overlaps, weighted by the distance to both ends.

    _compat_first_segment_weighs: the weights are those of the first segment, and shorter ones have
    the beginning of them.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, segments: Sequence[Tensor], state: State | None = None) -> Tensor:
        """Segments [B, C, n] -> the samples [B, C, m] that no later segment reaches.

        At least one segment, which may be empty.
        """
        tail = None if state is None else state.get(self, lambda: None)
        last = state is None or state.last
        made, begun = [segments[0][..., :0]], [segment for segment in segments if segment.shape[-1]]
        for index, segment in enumerate(begun, 1):
            tail = _added(tail or _first(segment), segment)
            if not (last and index == len(begun)):
                made.append(tail.mean(self.stride))
                tail = tail.after(self.stride)
        if last and tail is not None:
            made.append(tail.mean(None))
        if state is not None:
            state.put(self, tail)
        return torch.cat(made, -1)


@dataclass(frozen=True)
class _Tail:
    """Weighted sums [B, C, n] and sums of weights [n] from where the next segment begins."""

    sums: Tensor
    weights: Tensor
    triangle: Tensor

    def mean(self, end: int | None) -> Tensor:
        return self.sums[..., :end] / self.weights[:end]

    def after(self, begin: int) -> _Tail:
        return _Tail(self.sums[..., begin:].clone(), self.weights[begin:], self.triangle)


def _first(segment: Tensor) -> _Tail:
    length = segment.shape[-1]
    times = torch.linspace(0, 1, length + 2, dtype=segment.dtype, device=segment.device)
    triangle = 0.5 - (times[1:-1] - 0.5).abs()
    return _Tail(segment[..., :0], triangle[:0], triangle)


def _added(tail: _Tail, segment: Tensor) -> _Tail:
    """What was there and the next segment, of which either may be longer."""
    weights = tail.triangle[: segment.shape[-1]]
    sums = segment * weights
    longest = max(len(tail.weights), len(weights))
    return _Tail(
        _extended(tail.sums, longest) + _extended(sums, longest),
        _extended(tail.weights, longest) + _extended(weights, longest),
        tail.triangle,
    )


def _extended(x: Tensor, length: int) -> Tensor:
    """x [..., n] -> [..., length] with zeros behind it."""
    return nn.functional.pad(x, (0, length - x.shape[-1]))
