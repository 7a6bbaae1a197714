"""The range coder gives back what was put in, in the bytes that it ought to take."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import FormatError
from alm_cli.files.range_coder import LARGEST_TOTAL, RangeDecoder, RangeEncoder

Share = tuple[int, int, int]


def put_in(shares: list[Share]) -> bytes:
    coder = RangeEncoder()
    for start, share, total in shares:
        coder.put(start, share, total)
    return coder.finish()


def taken_out(data: bytes, shares: list[Share]) -> bool:
    """Whether a decoder finds every share where it was."""
    coder = RangeDecoder(memoryview(data))
    for start, share, total in shares:
        if not start <= coder.find(total) < start + share:
            return False
        coder.take(start, share)
    return True


def some_share(draw: st.DrawFn) -> Share:
    total = draw(st.integers(1, LARGEST_TOTAL) | st.sampled_from([1, 2, 3, 255, LARGEST_TOTAL]))
    share = draw(st.integers(1, total))
    return draw(st.integers(0, total - share)), share, total


@settings(deadline=None, max_examples=80)
@given(st.lists(st.composite(some_share)(), max_size=60))
def test_what_is_put_in_comes_out(shares: list[Share]) -> None:
    assert taken_out(put_in(shares), shares)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_carry_runs_through_full_bytes(last: int) -> None:
    # The highest part of everything, again and again, makes bytes of 255; the end may overflow.
    total = 1 << 20
    shares = [(total - 1, 1, total)] * 50 + [(last, 1, 3), (total - 2, 2, total)] * 3
    data = put_in(shares)
    assert data.count(255) > 100
    assert taken_out(data, shares)
    # One step less than the highest, then up: what has left must be counted up.
    odd = [(total - 1, 1, total)] * 20 + [(1, 2, 3)] * 90 + [(0, 1, 3)]
    assert taken_out(put_in(odd), odd)


def test_the_bytes_are_those_that_the_shares_are_worth() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(5_000):
        total = int(rng.integers(1, LARGEST_TOTAL))
        share = int(rng.integers(1, total + 1))
        shares.append((int(rng.integers(0, total - share + 1)), share, total))
    bits = sum(log2(total / share) for _, share, total in shares)
    data = put_in(shares)
    assert len(data) <= bits / 8 * 1.0001 + 2
    assert taken_out(data, shares)


def test_nothing_takes_no_bytes_and_zeros_follow_the_end() -> None:
    assert put_in([]) == b""
    assert put_in([(0, 1, 1000)] * 100) == b""
    assert taken_out(b"", [(0, 1, 1000)] * 100)


def test_what_no_encoder_makes_is_refused() -> None:
    coder = RangeDecoder(memoryview(b"\xff" * 8))
    with pytest.raises(FormatError, match="no writer makes"):
        coder.find(LARGEST_TOTAL - 1)
