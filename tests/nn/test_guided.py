"""Layers that listen to a text: what the rows that hear nothing would have heard is nothing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from alm_cli.nn.attention import KVCache
from alm_cli.nn.guided import GuidedBlock, StepAttention, TextAttention
from alm_cli.nn.roomy import RoomyCache
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP


@pytest.fixture
def block() -> GuidedBlock:
    torch.manual_seed(0)
    norm = partial(nn.LayerNorm, 16)
    attention = StepAttention(16, 2, causal=True)
    made = GuidedBlock(attention, TextAttention(16, 2), MLP(16, 32), norm)
    return made.requires_grad_(False).eval()


def heard(block: GuidedBlock, memory: Tensor) -> tuple[Tensor, Tensor]:
    return block.cross.heard(memory)


def test_trap_6_a_text_of_zeros_adds_exactly_nothing(block: GuidedBlock) -> None:
    x, words = torch.randn(4, 3, 16), torch.randn(2, 5, 16)
    skipped = block(x, heard(block, words))
    computed = block(x, heard(block, torch.cat((words, torch.zeros_like(words)))))
    assert torch.equal(skipped[2:], computed[2:])
    torch.testing.assert_close(skipped[:2], computed[:2], atol=1e-6, rtol=0)


def test_all_rows_may_listen(block: GuidedBlock) -> None:
    x, words = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    rows = [block(x[i : i + 1], heard(block, words[i : i + 1])) for i in range(2)]
    torch.testing.assert_close(block(x, heard(block, words)), torch.cat(rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", [1, 3, 20])
def test_a_cache_with_room_is_a_cache(block: GuidedBlock, positions: int) -> None:
    x, words = torch.randn(2, 12, 16), heard(block, torch.randn(2, 5, 16))
    usual, roomy = State(), State()
    usual.put(block.attention, KVCache(None))
    roomy.put(block.attention, RoomyCache(positions))
    for piece in x.split((4, 1, 1, 6), 1):
        assert torch.equal(block(piece, words, usual), block(piece, words, roomy))
    cache = roomy.get(block.attention, lambda: None)
    assert isinstance(cache, RoomyCache)
    assert torch.equal(cache.kept, usual.get(block.attention, lambda: cache).kept)


def test_room_is_taken_once() -> None:
    cache = RoomyCache(10)
    first, _ = cache.extend(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    later, _ = cache.extend(torch.zeros(1, 2, 7, 4), torch.ones(1, 2, 7, 4))
    assert first.data_ptr() == later.data_ptr() and later.shape[2] == 10


def test_keys_may_be_of_another_number_type(block: GuidedBlock) -> None:
    x, words = torch.randn(2, 12, 16), heard(block, torch.randn(2, 5, 16))
    state = State()
    state.put(block.attention, RoomyCache(12, torch.bfloat16))
    found = torch.cat([block(piece, words, state) for piece in x.split((11, 1), 1)], 1)
    exact = block(x, words)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.05
