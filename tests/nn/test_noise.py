"""Noise that depends on its seed and its place, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.nn.noise import Noise, normal_noise
from alm_cli.nn.state import State


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5000), st.integers(0, 3000))
def test_any_stretch_is_part_of_one_sequence(begin: int, length: int) -> None:
    whole = normal_noise(3, 1, 0, 8000)
    assert torch.equal(normal_noise(3, 1, begin, length), whole[begin : begin + length])


def test_it_is_normal_and_differs_by_seed_part_and_place() -> None:
    noise = normal_noise(0, 0, 0, 200_000).double()
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert abs((noise > 1.96).double().mean() - 0.025) < 0.002
    others = [noise.roll(1024), normal_noise(1, 0, 0, 200_000), normal_noise(0, 1, 0, 200_000)]
    for other in others:
        assert abs((noise * other).mean()) < 0.01


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(5)
    first, before = normal_noise(2, 0, 0, 100), torch.get_rng_state()
    torch.manual_seed(6)
    assert torch.equal(normal_noise(2, 0, 0, 100), first)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[50], [1, 49], [17, 0, 33], [1] * 50])
def test_any_chunking_gets_the_same_noise(sizes: list[int]) -> None:
    part = Noise(3, 4)
    part.weight.copy_(torch.eye(3)[..., None] * 2)
    x = torch.ones(2, 3, 50)
    state = State(9)
    y = torch.cat([part(piece, state) for piece in x.split(sizes, -1)], -1)
    assert torch.equal(y, (1 + 2 * normal_noise(9, 4, 0, 50)).expand(2, 3, 50))


@torch.no_grad()
def test_without_a_seed_there_is_none() -> None:
    part, x = Noise(3, 0), torch.randn(1, 3, 8)
    part.weight.fill_(1)
    assert part(x) is x and part(x, State()) is x
