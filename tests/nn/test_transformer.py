"""Blocks with the norm before or after, and stacks of them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from alm_cli.nn.attention import Attention
from alm_cli.nn.norm import LayerScale
from alm_cli.nn.position import Rotary
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, PostNormBlock, Transformer
from tests.laws import batch_equals_single, every, past_is_fixed, streaming_equals_whole


def stack(depth: int = 3) -> Transformer:
    torch.manual_seed(0)
    rotary = Rotary("halves")

    def block() -> Block:
        attention = Attention(16, 4, causal=True, window=6, rotary=rotary)
        norm, scale = partial(nn.LayerNorm, 16), partial(LayerScale, 16, 0.5)
        return Block(attention, MLP(16, 32), norm, scale)

    return Transformer(block() for _ in range(depth))


@torch.no_grad()
def test_the_norm_before() -> None:
    attention, mlp, norm = Attention(8, 2), MLP(8, 20, bias=True), partial(nn.LayerNorm, 8)
    block, x = Block(attention, mlp, norm, partial(LayerScale, 8, 0.3)), torch.randn(2, 5, 8)
    block.mlp_norm.weight.mul_(2)
    middle = x + 0.3 * attention(block.attention_norm(x))
    expected = middle + 0.3 * mlp(block.mlp_norm(middle))
    torch.testing.assert_close(block(x), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_norm_after() -> None:
    attention, mlp = Attention(8, 2, bias=True), MLP(8, 20, bias=True)
    block, x = PostNormBlock(attention, mlp, partial(nn.LayerNorm, 8)), torch.randn(2, 5, 8)
    block.mlp_norm.weight.mul_(2)
    middle = block.attention_norm(x + attention(x))
    torch.testing.assert_close(block(x), block.mlp_norm(middle + mlp(middle)), atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_activation_is_a_part() -> None:
    mlp, x = MLP(4, 6, activation=torch.relu), torch.randn(3, 4)
    expected = torch.relu(x @ mlp.up.weight.T) @ mlp.down.weight.T
    torch.testing.assert_close(mlp(x), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_stack_may_end_early() -> None:
    part, x = stack(), torch.randn(1, 9, 16)
    assert torch.equal(part(x, depth=0), x)
    assert torch.equal(part(x, depth=2), part.blocks[1](part.blocks[0](x)))
    assert torch.equal(part(x, depth=3), part(x))


@torch.no_grad()
@pytest.mark.parametrize("block", [Block, PostNormBlock])
def test_a_bias_reaches_the_attention(block: type[nn.Module]) -> None:
    part = Transformer([block(Attention(8, 2), MLP(8, 8), partial(nn.LayerNorm, 8))])
    x, bias = torch.randn(1, 4, 8), 9 * torch.randn(1, 2, 4, 4)
    assert not torch.allclose(part(x), part(x, bias=bias), atol=1e-3)
    assert not torch.allclose(part(x), part(x, torch.randn(1, 3, 8)), atol=1e-3)


def test_the_laws_hold_for_a_stack() -> None:
    part = stack()

    def step(x: Tensor, state: State | None) -> Tensor:
        return part(x.mT, state=state).mT

    x = torch.randn(2, 16, 50)
    for ends in ([1], [3, 4, 30], every(1, 50), every(2, 50)):
        streaming_equals_whole(step, x, ends)
    batch_equals_single(step, x)
    past_is_fixed(step, x, 20, 20)
