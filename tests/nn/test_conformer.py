"""Conformer blocks: distances, causal convolutions, and memory for long signals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.conformer import (
    Conformer,
    ConformerBlock,
    ConformerSpec,
    ConvModule,
    DistanceAttention,
)
from tests.laws import batch_equals_single, past_is_fixed

SPEC = ConformerSpec(
    features=6, dimension=8, hidden=12, heads=2, depth=3, kernel=5, left=4, right=2
)


def vectors(length: int, dimension: int = 8, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, dimension, generator=generator)


def attention() -> DistanceAttention:
    torch.manual_seed(0)
    part = DistanceAttention(8, 2, left=4, right=2)
    part.distances.data.normal_()
    return part


@torch.no_grad()
def test_a_query_meets_a_vector_for_its_distance_to_each_key() -> None:
    part, x = attention(), vectors(9)
    q, k, v = (
        layer(x)[0].view(9, 2, 4).transpose(0, 1).double() for layer in (part.q, part.k, part.v)
    )
    scores = torch.empty(2, 9, 9, dtype=torch.float64)
    for head in range(2):
        for query in range(9):
            for key in range(9):
                distance = min(max(key - query, -4), 2)
                meant = k[head, key] + part.distances[distance + 4].double()
                scores[head, query, key] = q[head, query] @ meant / 2
    y = (scores.softmax(-1) @ v).transpose(0, 1).reshape(9, 8).float()
    torch.testing.assert_close(part(x)[0], part.out(y), atol=1e-6, rtol=0)


@torch.no_grad()
def test_far_keys_count_as_being_at_the_farthest_distance() -> None:
    """Of 4 to the left and 2 to the right: swapping what is farther away changes nothing."""
    part, x = attention(), vectors(20)
    swapped = x.clone()
    swapped[:, :6] = x[:, :6].flip(1)  # at least 4 to the left of position 10
    swapped[:, 12:] = x[:, 12:].flip(1)  # at least 2 to the right
    torch.testing.assert_close(part(swapped)[:, 10], part(x)[:, 10], atol=1e-6, rtol=0)
    swapped[:, 6:8] = x[:, 6:8].flip(1)
    assert not torch.allclose(part(swapped)[:, 10], part(x)[:, 10], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("products", [1, 30, 200])
def test_queries_in_parts_are_all_queries(products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    part, x = attention(), vectors(23, batch=2)
    whole = part(x)
    monkeypatch.setattr("alm_cli.nn.conformer._PRODUCTS", products)
    torch.testing.assert_close(part(x), whole, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_convolution_looks_back_only() -> None:
    torch.manual_seed(0)
    part = ConvModule(8, 5)
    past_is_fixed(lambda x, _: part(x.mT).mT, vectors(20).mT, known=12, settled=12)
    x, changed = vectors(20), vectors(20)
    changed[:, 3] += 1
    moved = (part(changed) != part(x)).any(-1)[0].nonzero().flatten()
    assert moved.tolist() == [3, 4, 5, 6, 7]


@torch.no_grad()
def test_each_part_is_added_to_its_input() -> None:
    torch.manual_seed(0)
    block, x = ConformerBlock(SPEC), vectors(11)
    for part in (block.first.down, block.attention.out, block.second.down):
        part.weight.data.zero_()
        part.bias.data.zero_()
    block.convolution.down.weight.data.zero_()
    torch.testing.assert_close(block(x), block.norm(x))
    block.first.down.bias.data.fill_(1)
    block.second.down.bias.data.fill_(2)
    torch.testing.assert_close(block(x), block.norm(x + 0.5 + 1))  # halves of feed-forward parts


@torch.no_grad()
def test_fewer_blocks_are_the_first_ones() -> None:
    torch.manual_seed(0)
    stack, x = Conformer(SPEC), vectors(11, 6)
    states = [stack(x, depth) for depth in range(4)]
    torch.testing.assert_close(states[0], stack.project(stack.norm(x)))
    for block, before, after in zip(stack.blocks, states, states[1:], strict=False):
        assert torch.equal(block(before), after)
    assert torch.equal(stack(x), states[3])


def test_rows_do_not_see_one_another() -> None:
    torch.manual_seed(0)
    stack = Conformer(SPEC)
    batch_equals_single(lambda x, _: stack(x), vectors(13, 6, batch=3))


@torch.no_grad()
def test_memory_grows_with_the_length_not_with_its_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All products of 3000 queries with 3000 keys are 9 million; a part has about one."""
    sizes, attend = [], torch.nn.functional.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        sizes.append(bias.numel())
        return attend(q, k, v, bias)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    DistanceAttention(2, 1, 4, 2)(vectors(3000, 2))
    assert sum(sizes) == 9_000_000
    assert max(sizes) <= 1 << 20
