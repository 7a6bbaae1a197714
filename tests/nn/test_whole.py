"""Waiting for a signal, answering it in blocks, and its mean and variance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alm_cli.nn.state import State
from alm_cli.nn.whole import answered, heard, standardised
from tests.laws import every, pieces

WAVE = torch.randn(2, 1, 103, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [None, 10, 25, 103, 500])
@pytest.mark.parametrize("ends", [[], [1], [10, 20, 21], every(7, 103), every(25, 103), [102]])
def test_a_stream_is_heard_in_complete_blocks(size: int | None, ends: list[int]) -> None:
    part, state, got, given = nn.Identity(), State(), 0, 0
    parts = pieces(WAVE, ends)
    for index, piece in enumerate(parts, 1):
        state.last = index == len(parts)
        now = heard(part, piece, state, size)
        given += piece.shape[-1]
        assert torch.equal(now, WAVE[..., got : got + now.shape[-1]])
        got += now.shape[-1]
        assert got == (103 if state.last else given // size * size if size else 0)
    assert heard(part, WAVE, None, size) is WAVE


def test_what_was_heard_may_be_overwritten() -> None:
    part, state, piece = nn.Identity(), State(), WAVE.clone()
    assert heard(part, piece, state, None).shape == (2, 1, 0)
    piece.zero_()
    state.last = True
    assert torch.equal(heard(part, WAVE[..., :0], state, None), WAVE)


def test_blocks_and_rows_know_nothing_of_one_another() -> None:
    seen = []

    def step(block: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(block.shape))
        return block.sum(-1, keepdim=True)

    made = answered(step, WAVE, 40)
    assert seen == [(1, 1, 40), (1, 1, 40), (1, 1, 23)] * 2
    expected = torch.cat([block.sum(-1, keepdim=True) for block in WAVE.split(40, -1)], -1)
    torch.testing.assert_close(made, expected)
    assert answered(lambda block: block[..., :0], WAVE[..., :0], 40).shape == (2, 1, 0)


def test_rows_of_mean_zero_and_variance_one() -> None:
    wave = WAVE * torch.tensor([3.0, 1e-2])[:, None, None] + 0.5
    made = standardised(wave)
    assert made.dtype == torch.float32
    expected = (wave - wave.mean(-1, keepdim=True)) / torch.sqrt(
        wave.var(-1, correction=0, keepdim=True) + 1e-7
    )
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(standardised(torch.full((1, 1, 9), 0.3)), torch.zeros(1, 1, 9))
    assert standardised(wave[..., :0]).shape == (2, 1, 0)
