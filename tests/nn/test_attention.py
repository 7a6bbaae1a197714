"""Attention against the obvious slow one, its window, its streams."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from alm_cli.nn.attention import Attention, CrossAttention, KVCache, steadily
from alm_cli.nn.position import Rotary
from alm_cli.nn.state import State
from tests.laws import batch_equals_single, every, past_is_fixed, streaming_equals_whole

KINDS = {
    "full": {},
    "biased": {"bias": True},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 5},
    "window of one": {"causal": True, "window": 1},
    "shared keys": {"kv_heads": 2, "causal": True, "window": 7},
    "wide heads": {"head_dimension": 6, "bias": True},
}


def attention(**kind: object) -> Attention:
    torch.manual_seed(0)
    part = Attention(16, 4, **kind)  # type: ignore[arg-type]
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.5)
    return part.eval()


def obvious(part: Attention, x: Tensor, memory: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [B, S, D], memory [B, M, D] -> [B, S, D], query by query."""
    size, rows = part.head_dimension, []
    for row, source in zip(x, memory, strict=True):
        q, k, v = part.q(row), part.k(source), part.v(source)
        if part.rotary is not None:
            q, k = (part.rotary(y.view(1, len(y), -1, size).mT.mT.transpose(1, 2)) for y in (q, k))
            q, k = (y[0].transpose(0, 1).flatten(1) for y in (q, k))
        found = torch.zeros(len(q), q.shape[1])
        heads, group = q.shape[1] // size, q.shape[1] // k.shape[1]
        for head in range(heads):
            mine = slice(head * size, head * size + size)
            theirs = slice(head // group * size, head // group * size + size)
            for i in range(len(q)):
                seen = range(len(k))
                if part.causal:
                    seen = range(max(0, i - (part.window or len(k)) + 1), i + 1)
                logits = k[list(seen), theirs] @ q[i, mine] / math.sqrt(size)
                if bias is not None:
                    logits = logits + bias[0, head, i, list(seen)]
                found[i, mine] = logits.softmax(0) @ v[list(seen), theirs]
        rows.append(part.out(found))
    return torch.stack(rows)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("length", [1, 4, 5, 6, 13])
def test_it_is_the_softmax_of_products(kind: dict[str, object], length: int) -> None:
    part, x = attention(**kind), torch.randn(2, length, 16)
    torch.testing.assert_close(part(x), obvious(part, x, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["full", "causal", "window"])
def test_a_bias_is_added_to_the_products(kind: str) -> None:
    part, x = attention(**KINDS[kind]), torch.randn(2, 11, 16)
    bias = torch.randn(1, 4, 11, 11)
    expected = obvious(part, x, x, bias)
    torch.testing.assert_close(part(x, bias=bias), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(part(x), expected, atol=1e-2)


@torch.no_grad()
def test_keys_and_values_may_come_from_a_memory() -> None:
    part, x, memory = attention(), torch.randn(2, 3, 16), torch.randn(2, 7, 16)
    torch.testing.assert_close(part(x, memory), obvious(part, x, memory), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("style", ["halves", "pairs"])
def test_queries_and_keys_are_turned_by_their_position(style: str) -> None:
    part = attention(causal=True, window=4, rotary=Rotary(style, 50.0))  # type: ignore[arg-type]
    x = torch.randn(1, 9, 16)
    torch.testing.assert_close(part(x), obvious(part, x, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 3, 8])
def test_a_window_sees_the_last_vectors_and_no_more(window: int) -> None:
    """Keys with 0 <= delta < window: the vector itself counts."""
    part, x = attention(causal=True, window=window), torch.randn(1, 30, 16)
    before = part(x)
    for changed in (0, 10, 29):
        other = x.clone()
        other[:, changed] += 1
        differs = (part(other) != before).any(-1)[0].nonzero().flatten().tolist()
        assert differs == list(range(changed, min(changed + window, 30)))


@torch.no_grad()
@pytest.mark.parametrize("window", [5, 300])
def test_a_long_signal_is_done_in_parts(window: int) -> None:
    part, x = attention(causal=True, window=window), torch.randn(1, 700, 16)
    delta = torch.arange(700)[:, None] - torch.arange(700)
    hidden = torch.zeros(700, 700).masked_fill((delta < 0) | (delta >= window), -torch.inf)
    made = part(x)
    part.causal, part.window = False, None
    torch.testing.assert_close(made, part(x, bias=hidden[None, None]), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["causal", "window", "window of one", "shared keys"])
def test_the_laws_hold(kind: str) -> None:
    part = attention(**KINDS[kind], rotary=Rotary("halves"))

    def step(x: Tensor, state: State | None) -> Tensor:
        return part(x.mT, state=state).mT

    x = torch.randn(2, 16, 60)
    for ends in ([1], [5, 6, 7, 40], every(1, 60), every(2, 60), every(16, 60)):
        streaming_equals_whole(step, x, ends)
    batch_equals_single(step, x)
    past_is_fixed(step, x, 20, 20)


@torch.no_grad()
def test_a_bias_streams_too() -> None:
    part, x, bias = attention(causal=True), torch.randn(1, 6, 16), torch.randn(1, 4, 6, 6)
    state, whole = State(), part(x, bias=bias)
    first = part(x[:, :4], state=state, bias=bias[:, :, :4, :4])
    second = part(x[:, 4:], state=state, bias=bias[:, :, 4:])
    torch.testing.assert_close(torch.cat((first, second), 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["biased", "shared keys"])
def test_for_inference_three_products_are_one(kind: str) -> None:
    part, x = attention(**KINDS[kind], rotary=Rotary("pairs")), torch.randn(2, 9, 16)
    before, weights = part.train()(x), {name: p.clone() for name, p in part.named_parameters()}
    torch.testing.assert_close(part.eval()(x), before, atol=1e-5, rtol=1e-5)
    for name, parameter in part.named_parameters():
        assert torch.equal(parameter, weights[name])
    stored = {p.untyped_storage().data_ptr() for p in (part.q.weight, part.k.weight, part.v.weight)}
    assert len(stored) == 1, "the weights must not be kept twice"
    # Weights that are given later, or changed in place, count all the same.
    part.k.weight.mul_(2)
    torch.testing.assert_close(part(x), obvious(part, x, x), atol=1e-5, rtol=1e-5)
    part.v.weight.data = part.v.weight.data * 3
    torch.testing.assert_close(part(x), obvious(part, x, x), atol=1e-5, rtol=1e-5)
    assert part.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
def test_two_streams_do_not_meet() -> None:
    part, x = attention(causal=True, window=5), torch.randn(2, 12, 16)
    states, made = (State(), State()), ([], [])
    for begin in range(0, 12, 3):
        for row in (0, 1):
            y = part(x[row : row + 1, begin : begin + 3], state=states[row])
            made[row].append(y)
    streams = torch.cat([torch.cat(parts, 1) for parts in made])
    torch.testing.assert_close(streams, part(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_a_windowed_cache_stays_small(size: int) -> None:
    cache, room = KVCache(8), set()
    for begin in range(0, 4000, size):
        places = torch.arange(begin, begin + size).float().view(1, 1, -1, 1)
        keys, values = cache.extend(places, -places)
        first = max(0, begin - 7)
        assert keys.flatten().tolist() == list(range(first, begin + size))
        assert torch.equal(values, -keys)
        room.add(keys.untyped_storage().nbytes())
    # Keys and values share a buffer.
    assert max(room) <= 2 * (4 * 2 * (7 + size) + 8) and cache.length == begin + size


def test_a_cache_without_window_keeps_all_and_rarely_moves() -> None:
    cache, places = KVCache(None), set()
    for begin in range(1000):
        keys, _ = cache.extend(*torch.full((2, 1, 1, 1, 1), float(begin)))
        places.add(keys.data_ptr())
    assert keys.flatten().tolist() == list(range(1000))
    assert len(places) < 15


@torch.no_grad()
def test_it_attends_in_bfloat16() -> None:
    part = attention(causal=True, window=4, rotary=Rotary("pairs")).bfloat16()
    y = part(torch.randn(1, 9, 16).bfloat16())
    assert y.dtype == torch.bfloat16 and y.isfinite().all()


def test_what_looks_ahead_cannot_stream() -> None:
    with pytest.raises(AssertionError, match="stream"):
        attention()(torch.randn(1, 2, 16), state=State())
    with pytest.raises(AssertionError, match="window"):
        Attention(16, 4, window=3)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["causal", "window", "shared keys"])
def test_rows_of_a_stream_may_be_reordered(kind: str) -> None:
    part, x = attention(**KINDS[kind]), torch.randn(3, 12, 16)
    rows, state = torch.tensor([1, 1, 0, 2, 1]), State()
    part(x[:, :9], state=state)
    state.reorder(rows)
    for begin in range(9, 12):
        made = part(x[rows, begin : begin + 1], state=state)
        torch.testing.assert_close(made[:, 0], part(x)[rows, begin], atol=1e-5, rtol=0)


@torch.no_grad()
def test_keys_without_bias() -> None:
    part, x = attention(bias=True, key_bias=False), torch.randn(2, 9, 16)
    assert part.k.bias is None and part.q.bias is not None
    torch.testing.assert_close(part(x), obvious(part, x, x), atol=1e-5, rtol=1e-5)
    part.v.bias.add_(1)
    torch.testing.assert_close(part(x), obvious(part, x, x), atol=1e-5, rtol=1e-5)


def crossed() -> CrossAttention:
    torch.manual_seed(0)
    part = CrossAttention(16, 4, bias=True, key_bias=False)
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.5)
    return part.eval()


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("length", [1, 4])
def test_rows_that_share_a_memory_are_read_with_it_once(beams: int, length: int) -> None:
    part, same = crossed(), attention(bias=True, key_bias=False)
    same.load_state_dict(part.state_dict())
    x, memory = torch.randn(2 * beams, length, 16), torch.randn(2, 7, 16)
    heard = part.heard(memory)
    assert heard[0].shape == (2, 4, 7, 4)
    expected = same(x, memory.repeat_interleave(beams, 0))
    torch.testing.assert_close(part(x, heard), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_scores_make_the_weights_of_what_is_collected() -> None:
    part, x, memory = crossed(), torch.randn(2, 3, 16), torch.randn(2, 7, 16)
    heard = part.heard(memory)
    weights = part.scores(x, heard[0], range(4)).softmax(-1)
    made = part.out((weights @ heard[1]).transpose(1, 2).flatten(2))
    torch.testing.assert_close(made, part(x, heard), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        part.scores(x, heard[0], (3, 1)), part.scores(x, heard[0], range(4))[:, [3, 1]]
    )


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 5])
def test_a_memory_can_be_kept_in_fewer_bits(beams: int) -> None:
    """It is half as large, and what is collected is near."""
    part, x, memory = crossed(), torch.randn(3 * beams, 2, 16), torch.randn(3, 40, 16)
    exact = part(x, part.heard(memory))
    part.kept = torch.bfloat16
    heard = part.heard(memory)
    assert [one.dtype for one in heard] == [torch.bfloat16] * 2
    made = part(x, heard)
    assert made.dtype == torch.float32
    assert 1e-5 < float((made - exact).norm() / exact.norm()) < 2e-2
    scores = part.scores(x[::beams], heard[0], (1, 2))
    assert scores.dtype == torch.float32 and scores.shape == (3, 2, 2, 40)


@torch.no_grad()
@pytest.mark.parametrize("queries", [1, 5])
def test_fewer_bits_are_rounded_as_alone(queries: int) -> None:
    q = torch.randn(9, 6, queries, 64)
    k, v = torch.randn(2, 9, 6, 300, 64).bfloat16()
    alone = torch.cat(
        [steadily(*one) for one in zip(q.split(1), k.split(1), v.split(1), strict=True)]
    )
    assert all(torch.equal(steadily(q[:n], k[:n], v[:n]), alone[:n]) for n in range(1, 10))
