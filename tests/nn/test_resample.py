"""Resampling against torchaudio, and the laws of streams."""

from __future__ import annotations

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alm_cli.nn.resample import Resampler
from tests.laws import every, pieces

RATES = [
    (44_100, 24_000),
    (48_000, 24_000),
    (16_000, 24_000),
    (4_000, 24_000),
    (384_000, 24_000),
    (24_000, 44_100),
    (24_000, 8_000),
    (22_050, 16_000),
]


def resampled(x: Tensor, source: int, target: int, ends: list[int]) -> Tensor:
    resampler = Resampler(source, target)
    made = [resampler.push(piece) for piece in pieces(x, ends)]
    return torch.cat([*made, resampler.finish()], -1)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("length", [1, 2, 3, 160, 5003])
def test_it_is_torchaudios_of_the_whole(source: int, target: int, length: int) -> None:
    x = torch.randn(2, length)
    ours = resampled(x, source, target, [])
    # In double precision: in float32 torchaudio computes the kernel itself to 4 digits only.
    exact = torchaudio.functional.resample(x.double(), source, target).float()
    torch.testing.assert_close(ours, exact, atol=3e-6, rtol=0)
    assert ours.shape[1] == -(-length * target // source)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(RATES),
    st.integers(1, 3000),
    st.lists(st.integers(0, 3000), max_size=8),
)
def test_blocks_do_not_change_a_bit(rates: tuple[int, int], length: int, ends: list[int]) -> None:
    x = torch.randn(1, length)
    assert torch.equal(resampled(x, *rates, ends), resampled(x, *rates, []))


def test_one_sample_at_a_time() -> None:
    x = torch.randn(2, 300)
    whole = resampled(x, 44_100, 24_000, [])
    assert torch.equal(resampled(x, 44_100, 24_000, every(1, 300)), whole)


@pytest.mark.parametrize(("source", "target"), [(44_101, 24_000), (383_999, 24_000)])
def test_unrelated_rates_take_no_huge_kernel(source: int, target: int) -> None:
    """The dense kernel of 44101 to 24000 Hz would have a thousand million weights."""
    resampler = Resampler(source, target)
    kept = [value for value in vars(resampler).values() if isinstance(value, Tensor)]
    assert sum(value.numel() for value in kept) < 5_000_000
    seconds = torch.arange(source // 2) / source
    made = torch.cat((resampler.push(torch.sin(3000 * seconds)[None]), resampler.finish()), -1)
    wanted = torch.sin(3000 * torch.arange(made.shape[1]) / target)
    assert (made[0] - wanted)[50:-50].abs().max() < 2e-3


def test_a_stream_holds_a_window_and_no_more() -> None:
    resampler = Resampler(384_000, 24_000)
    made = 0
    for _ in range(50):
        made += resampler.push(torch.randn(1, 10_000)).shape[1]
        held = [value for value in vars(resampler).values() if isinstance(value, Tensor)]
        assert sum(value.untyped_storage().nbytes() for value in held) < 10_000
    assert made + resampler.finish().shape[1] == 500_000 // 16 + bool(500_000 % 16)


def test_equal_rates_pass_through() -> None:
    x = torch.randn(2, 10)
    assert torch.equal(resampled(x, 24_000, 24_000, [3]), x)


def test_nothing_in_is_nothing_out() -> None:
    assert Resampler(16_000, 24_000).finish().shape == (1, 0)
