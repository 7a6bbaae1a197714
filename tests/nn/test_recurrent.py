"""Recurrence: the skip around it, and the laws of streams."""

from __future__ import annotations

import torch

from alm_cli.nn.recurrent import ResidualLSTM, ResidualTwoWayLSTM
from alm_cli.nn.state import State
from tests.laws import batch_equals_single, past_is_fixed, streaming_equals_whole


@torch.no_grad()
def test_the_input_is_added_to_the_output() -> None:
    part, x = ResidualLSTM(6, 2), torch.randn(2, 6, 9)
    torch.testing.assert_close(part(x) - x, part.lstm(x.mT)[0].mT, atol=1e-6, rtol=0)


def test_the_laws_hold_for_recurrence() -> None:
    part, x = ResidualLSTM(6, 2), torch.randn(3, 6, 20)
    streaming_equals_whole(part, x, [1, 2, 9, 15])
    batch_equals_single(part, x)
    past_is_fixed(part, x, 12, 12)


@torch.no_grad()
def test_two_directions_stand_beside_each_other_each_with_its_input() -> None:
    part, x = ResidualTwoWayLSTM(6, 2), torch.randn(2, 6, 9)
    torch.testing.assert_close(
        part(x), part.lstm(x.mT)[0].mT + x.repeat(1, 2, 1), atol=1e-6, rtol=0
    )
    changed = x.clone()
    changed[..., -1] += 1
    assert not torch.equal(part(x)[..., 0], part(changed)[..., 0])


def test_two_directions_answer_at_the_end_of_a_stream() -> None:
    part, x = ResidualTwoWayLSTM(6, 2), torch.randn(3, 6, 20)
    streaming_equals_whole(part, x, [1, 2, 9, 15])
    batch_equals_single(part, x)
    state = State()
    assert part(x, state).shape == (3, 12, 0)
    state.last = True
    torch.testing.assert_close(part(x[..., :0], state), part(x))
    assert state.get(part, list) == [], "what has left is not kept"
