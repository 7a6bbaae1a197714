"""The delay pattern and its inverse."""

from __future__ import annotations

import pytest
import torch

from alm_cli.decoding.delays import delay, undelay, undelayed


@pytest.mark.parametrize("frames", [0, 1, 3, 17])
@pytest.mark.parametrize("lags", [(0, 1, 2, 3), (0, 8, 9, 10), (0, 0, 1, 1), (0,)])
def test_undelay_undoes_delay(frames: int, lags: tuple[int, ...]) -> None:
    codes = torch.randint(0, 9, (2, len(lags), frames))
    steps = delay(codes, lags, -1)
    assert steps.shape[2] == frames + max(lags)
    assert torch.equal(undelay(steps, lags), codes)
    assert [frame.tolist() for frame in undelayed(steps.unbind(2), lags)] == [
        frame.tolist() for frame in codes.unbind(2)
    ]
    assert (steps == -1).sum() == 2 * (len(lags) * max(lags))


def test_book_k_begins_its_lag_later() -> None:
    codes = torch.arange(6).view(1, 2, 3)
    wanted = torch.tensor([[[0, 1, 2, -1, -1], [-1, -1, 3, 4, 5]]])
    assert torch.equal(delay(codes, (0, 2), -1), wanted)
