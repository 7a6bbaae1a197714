"""Caches of keys and values that are cut back, or that stay where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from alm_cli.nn.attention import Attention, KVCache
from alm_cli.nn.state import State
from alm_cli.nn.static import Place, StaticCache


def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(16, 4, bias=True, causal=True).requires_grad_(False).eval()


def vectors(steps: int) -> Tensor:
    return torch.randn(3, steps, 16, generator=torch.Generator().manual_seed(steps))


def test_what_is_taken_back_was_never_there() -> None:
    part, x, other, state = attention(), vectors(9), vectors(4), State()
    part(x[:, :5], state=state)
    part(other, state=state)
    state.rewind(4)
    found = part(x[:, 5:], state=state)
    torch.testing.assert_close(found, part(x)[:, 5:], atol=1e-6, rtol=0)


def test_a_bias_counts_for_a_single_step_too() -> None:
    part, x, state = attention(), vectors(6), State()
    bias = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    whole = part(x, bias=bias)
    steps = [part(x[:, n : n + 1], None, state, bias[:, :, n : n + 1, : n + 1]) for n in range(6)]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-6, rtol=0)


def test_static_caches_give_what_growing_ones_give_in_the_same_memory() -> None:
    part, x = attention(), vectors(8)
    growing = State()
    part(x[:, :3], state=growing)
    static, place = State(), Place(3, 8, x)
    cache = growing.get(part, lambda: KVCache(None))
    static.put(part, StaticCache(cache, place, 8))
    rows = torch.tensor([2, 2, 0])
    where = None
    for step in range(3, 8):
        place.advance()
        now = x[:, step : step + 1]
        torch.testing.assert_close(
            part(now, state=static), part(now, state=growing), atol=1e-6, rtol=0
        )
        static.reorder(rows)
        growing.reorder(rows)
        held = static.get(part, lambda: cache).kept.data_ptr()
        assert where in (None, held)
        where = held
    static.reorder(torch.tensor([1]))
    assert static.get(part, lambda: cache).kept.shape[1] == 1
