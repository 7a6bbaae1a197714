"""Streams as rows of a batch and apart again: exactly what each had been by itself."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from alm_cli.nn.attention import Attention
from alm_cli.nn.conv import Conv
from alm_cli.nn.position import Rotary
from alm_cli.nn.recurrent import ResidualLSTM
from alm_cli.nn.rows import apart, kind_of, together
from alm_cli.nn.state import State
from alm_cli.nn.whole import heard
from tests.laws import Step


def attention() -> Step:
    part = Attention(8, 2, causal=True, window=5, rotary=Rotary("pairs")).eval()
    return lambda x, state: part(x.mT, state=state).mT


def whole() -> Step:
    part = nn.Identity()
    return lambda x, state: heard(part, x, state, 4)


PARTS = {
    "a causal convolution": partial(Conv, 8, 8, 5),
    "a centred one, mirrored": partial(Conv, 8, 8, 5, stride=2, causal=False, padding="reflect"),
    "memory": partial(ResidualLSTM, 8, 2),
    "attention": attention,
    "what waits": whole,
}


def signals(rows: int, length: int) -> Tensor:
    """x [B, 1, 8, T], one recording after the other."""
    return torch.randn(rows, 1, 8, length, generator=torch.Generator().manual_seed(length))


@torch.no_grad()
@pytest.mark.parametrize("name", PARTS)
def test_streams_go_on_together_as_they_would_alone(name: str) -> None:
    """Together for two calls, then apart, then two of them together again."""
    torch.manual_seed(0)
    step, xs = PARTS[name](), signals(3, 40)
    alone, states = [State() for _ in xs], [State() for _ in xs]
    for begin in (0, 12, 24):
        pieces = xs[..., begin : begin + 12]
        wanted = [step(piece, state) for piece, state in zip(pieces, alone, strict=True)]
        chosen = [0, 1, 2] if begin < 24 else [2, 0]
        kinds = {kind_of(states[row]) for row in chosen}
        assert len(kinds) == 1
        joined = together([states[row] for row in chosen])
        made = step(torch.cat([pieces[row] for row in chosen]), joined)
        apart(joined, [states[row] for row in chosen])
        for place, row in enumerate(chosen):
            torch.testing.assert_close(made[place : place + 1], wanted[row], atol=1e-6, rtol=0)
    last = step(xs[1][..., 24:36], states[1])
    torch.testing.assert_close(last, wanted[1], atol=1e-6, rtol=0)


@torch.no_grad()
def test_convolutions_meet_at_any_place_and_attention_only_at_the_same() -> None:
    for name, meets in (("a causal convolution", True), ("memory", True), ("attention", False)):
        step, (early, late) = PARTS[name](), (State(), State())
        step(torch.randn(1, 8, 12), early)
        for _ in range(2):
            step(torch.randn(1, 8, 12), late)
        assert (kind_of(early) == kind_of(late)) is meets, name


def test_a_first_call_a_last_call_and_one_between_are_of_different_kinds() -> None:
    conv, first, middle, last = Conv(1, 1, 3), State(), State(), State()
    for state in (middle, last):
        conv(torch.zeros(1, 1, 8), state)
    last.last = True
    assert len({kind_of(first), kind_of(middle), kind_of(last)}) == 3


@torch.no_grad()
def test_what_lies_beside_goes_with_its_row() -> None:
    joined, states = State(), [State(), State()]
    joined.side["scale"] = torch.arange(6.0).view(3, 2)
    apart(joined, states)
    assert [state.side["scale"].flatten().tolist() for state in states] == [[0, 2, 4], [1, 3, 5]]
