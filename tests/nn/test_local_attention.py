"""Attention within windows against the obvious slow one, and its laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.local_attention import LocalAttention
from tests.laws import batch_equals_single, past_is_fixed, streaming_equals_whole


@pytest.fixture(scope="module")
def part() -> LocalAttention:
    """Two heads of 4 features, windows of 5 steps."""
    generator = torch.Generator().manual_seed(0)
    made = LocalAttention(8, 5, head=4).requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return made


def turned(x: Tensor, position: int) -> Tensor:
    """x [D], its first half turned with its second by angles that grow with the position."""
    half = len(x) // 2
    angles = torch.tensor([position * 10_000 ** (-i / half) for i in range(half)])
    a, b = x[:half], x[half:]
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine))


def slow(part: LocalAttention, x: Tensor) -> Tensor:
    """x [C, T], one query after the other."""
    made = []
    for step in range(x.shape[1]):
        first = step // part.window * part.window
        window = x[:, first : first + part.window]
        q, k, v = part.qkv(part.norm(window.T)).chunk(3, -1)
        heads = []
        for head in range(x.shape[0] // part.head):
            own = slice(head * part.head, (head + 1) * part.head)
            query = turned(q[step - first, own], step - first)
            keys = torch.stack([turned(key, place) for place, key in enumerate(k[:, own])])
            weights = (keys @ query / part.head**0.5).softmax(0)
            heads.append(weights @ v[:, own])
        made.append(x[:, step] + part.out(torch.cat(heads)))
    return torch.stack(made, 1)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 4, 5, 6, 10, 23])
def test_it_is_one_query_after_the_other(part: LocalAttention, length: int) -> None:
    x = torch.randn(8, length)
    torch.testing.assert_close(part(x[None])[0], slow(part, x), atol=1e-5, rtol=1e-5)


def test_windows_do_not_see_one_another(part: LocalAttention) -> None:
    x = torch.randn(1, 8, 20)
    past_is_fixed(part, x, 10, 10)
    batch_equals_single(part, torch.randn(3, 8, 12))


@pytest.mark.parametrize("length", [3, 5, 10, 13])
def test_any_chunking_equals_the_whole(part: LocalAttention, length: int) -> None:
    x = torch.randn(1, 8, length)
    for size in (1, 4, 5, 7):
        streaming_equals_whole(part, x, list(range(size, length, size)))


def test_nothing_is_nothing(part: LocalAttention) -> None:
    assert part(torch.zeros(2, 8, 0)).shape == (2, 8, 0)
