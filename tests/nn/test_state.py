"""The memory of a stream: rows reordered, streams forked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from alm_cli.nn.attention import Attention
from alm_cli.nn.state import State


class Rows:
    """What a part may remember: something for every row."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def reorder(self, rows: Tensor) -> None:
        self.values = self.values[rows]

    def fork(self) -> Rows:
        return Rows(self.values.clone())


def test_rows_of_all_parts_are_reordered() -> None:
    state, parts = State(), (nn.Identity(), nn.Identity())
    for part in parts:
        state.put(part, Rows(torch.arange(3)))
    state.reorder(torch.tensor([2, 0, 0, 1]))
    state.reorder(torch.tensor([3, 1]))
    for part in parts:
        assert state.get(part, lambda: Rows(torch.zeros(0))).values.tolist() == [1, 0]


def test_what_cannot_be_reordered_is_a_mistake() -> None:
    state = State()
    state.put(nn.Identity(), 3)
    with pytest.raises(AttributeError):
        state.reorder(torch.tensor([0]))


@torch.no_grad()
def test_forks_go_on_apart() -> None:
    part, x = Attention(8, 2, causal=True).eval(), torch.randn(1, 6, 8)
    state = State(noise_seed=3)
    part(x[:, :4], state=state)
    other = state.fork()
    assert other.noise_seed == 3
    mine = part(x[:, 4:], state=state)
    theirs = part(x[:, [5, 4]], state=other)
    torch.testing.assert_close(mine, part(x)[:, 4:], atol=1e-6, rtol=0)
    swapped = torch.cat((x[:, :4], x[:, [5, 4]]), 1)
    torch.testing.assert_close(theirs, part(swapped)[:, 4:], atol=1e-6, rtol=0)
