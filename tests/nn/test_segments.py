"""Segments and their overlap-add against the obvious loops, and the laws of streams."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alm_cli.nn.segments import OverlapAdd, Segments
from alm_cli.nn.state import State
from tests.laws import pieces


def cuts(x: Tensor, length: int, stride: int) -> list[Tensor]:
    """All segments of a whole signal."""
    return [x[..., begin : begin + length] for begin in range(0, x.shape[-1], stride)]


def slow(segments: list[Tensor], stride: int) -> Tensor:
    """Weighted sums over the whole signal, divided by the sums of the weights."""
    first = segments[0].shape[-1]
    triangle = torch.tensor([0.5 - abs((i + 1) / (first + 1) - 0.5) for i in range(first)])
    ends = [index * stride + segment.shape[-1] for index, segment in enumerate(segments)]
    total, weights = torch.zeros(*segments[0].shape[:2], max(ends)), torch.zeros(max(ends))
    for index, segment in enumerate(segments):
        for place in range(segment.shape[-1]):
            total[..., index * stride + place] += triangle[place] * segment[..., place]
            weights[index * stride + place] += triangle[place]
    return total / weights


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_chunking_cuts_the_same_segments(data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, 9), "stride")
    length = stride + data.draw(st.integers(0, 9), "overlap")
    samples = data.draw(st.integers(1, 60), "samples")
    ends = data.draw(st.lists(st.integers(1, 60)), "ends")
    part, x, state, found = Segments(length, stride), torch.randn(1, 2, samples), State(), []
    parts = pieces(x, ends)
    for index, piece in enumerate(parts, 1):
        state.last = index == len(parts)
        found += part(piece, state)
        if not state.last:
            assert all(segment.shape[-1] == length for segment in found)
    for made in (found, part(x)):
        assert len(made) == len(cuts(x, length, stride))
        for ours, wanted in zip(made, cuts(x, length, stride), strict=True):
            assert torch.equal(ours, wanted)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_segments_fade_into_one_another_however_they_arrive(data: st.DataObject) -> None:
    stride = data.draw(st.integers(2, 8), "stride")
    length = stride + data.draw(st.integers(0, stride), "overlap")
    samples = data.draw(st.integers(1, 60), "samples")
    segments = cuts(torch.randn(1, 2, samples), length, stride)
    # Decoded segments need not agree where they overlap.
    segments = [segment + torch.randn_like(segment) for segment in segments]
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=9), "sizes")
    part, state, made, begin = OverlapAdd(stride), State(), [], 0
    while begin < len(segments):
        size = sizes[begin % len(sizes)]
        state.last = begin + size >= len(segments)
        made.append(part(segments[begin : begin + size], state))
        begin += size
    wanted = slow(segments, stride)
    torch.testing.assert_close(torch.cat(made, -1), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(part(segments), wanted, atol=1e-5, rtol=0)


def test_equal_segments_are_what_they_were_cut_from() -> None:
    x = torch.randn(2, 1, 47)
    torch.testing.assert_close(OverlapAdd(9)(cuts(x, 12, 9)), x)


def test_the_end_may_come_without_a_segment() -> None:
    part, state = OverlapAdd(4), State()
    segment = torch.randn(1, 1, 6)
    first = part([segment], state)
    state.last = True
    rest = part([segment[..., :0]], state)
    assert (first.shape[-1], rest.shape[-1]) == (4, 2)
    torch.testing.assert_close(torch.cat((first, rest), -1), segment)
    assert part([segment[..., :0]]).shape == (1, 1, 0)
