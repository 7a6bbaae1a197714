"""Scaled dot-product attention over a sequence, whole or streamed (arXiv:1706.03762)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.linear import Linear, product
from alm_cli.nn.state import State

# So many queries or as many as the window is long go together; fewer would not be faster.
_QUERIES = 256


class Attention(nn.Module):
    """Every vector of a sequence collects from those that it may see.

    `causal`: from itself and those before; with a `window`, from the last `window` of these, so
    that a stream needs steady memory. `kv_heads` fewer than `heads` are shared among them
    (arXiv:2305.13245). `rotary` is a part such as `alm_cli.nn.position.Rotary`.
    """

    def __init__(
        self,
        dimension: int,
        heads: int,
        *,
        head_dimension: int | None = None,
        kv_heads: int | None = None,
        bias: bool = False,
        causal: bool = False,
        window: int | None = None,
        rotary: nn.Module | None = None,
    ) -> None:
        super().__init__()
        assert causal or window is None, "a window looks back only"
        self.head_dimension = head_dimension or dimension // heads
        self.causal, self.window, self.rotary = causal, window, rotary
        # Of q, k and v one after another: where the heads of q end, and those of k.
        self._edges = heads, heads + (kv_heads or heads)
        wide, narrow = heads * self.head_dimension, (kv_heads or heads) * self.head_dimension
        self.q = Linear(dimension, wide, bias=bias)
        self.k = Linear(dimension, narrow, bias=bias)
        self.v = Linear(dimension, narrow, bias=bias)
        self.out = Linear(wide, dimension, bias=bias)
        self._joined: tuple[Tensor, Tensor | None] | None = None

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        state: State | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D], collected from x itself or from `memory` [B, M, D].

        With `state`, x continues a stream, of which earlier calls brought the beginning (causal
        attention only). `bias` [B or 1, H, S, keys] is added to the products before the softmax.
        """
        cache = None
        if state is not None and memory is None:
            assert self.causal, "what is seen later cannot be looked at in a stream"
            cache = state.get(self, lambda: KVCache(self.window))
            state.put(self, cache)
        q, k, v = self._projected(x, memory, cache.length if cache else 0)
        if cache is not None:
            k, v = cache.extend(k, v)
        y = self._collected(q, k, v, bias)
        return self.out(y.transpose(1, 2).flatten(2))

    def train(self, mode: bool = True) -> Attention:
        """As `nn.Module.train`; for inference, q, k and v are laid side by side in memory."""
        super().train(mode)
        if not mode:
            parts = (self.q, self.k, self.v)
            weight = _side_by_side([part.weight for part in parts])
            biases = [part.bias for part in parts if part.bias is not None]
            self._joined = weight, _side_by_side(biases) if biases else None
        return self

    def _projected(
        self, x: Tensor, memory: Tensor | None, begin: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, S, D], memory [B, M, D] or None -> q, k and v [B, H, S or M, D]."""
        joined = None if memory is not None else self._one_product()
        if joined is None:
            source = x if memory is None else memory
            q, k = self._heads(self.q(x)), self._heads(self.k(source))
            v = self._heads(self.v(source))
            return self._turned(q, begin), self._turned(k, begin), v
        y = self._heads(product(x, *joined))
        queries, keys = self._edges
        both = self._turned(y[:, :keys], begin)
        return both[:, :queries], both[:, queries:], y[:, keys:]

    def _one_product(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight and bias of q, k and v together, unless these have been given others since."""
        if self.training or self._joined is None:
            return None
        weight, bias = self._joined
        place = weight.data_ptr()
        for part in (self.q, self.k, self.v):
            if part.weight.data_ptr() != place:
                return None
            place += part.weight.nbytes
        return weight, bias

    def _turned(self, x: Tensor, begin: int) -> Tensor:
        """x [B, H, S, D] at positions from `begin` on -> [B, H, S, D]."""
        return x if self.rotary is None else self.rotary(x, begin)

    def _heads(self, x: Tensor) -> Tensor:
        """x [B, S, H * D] -> [B, H, S, D]."""
        return x.view(*x.shape[:-1], -1, self.head_dimension).transpose(1, 2)

    def _collected(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """q [B, H, S, D], the last S of the positions of k and v [B, H, K, D] -> [B, H, S, D]."""
        length, past = q.shape[2], k.shape[2] - q.shape[2]
        window = self.window or k.shape[2]
        # The products of all queries with all keys of a long signal would not fit.
        step = max(window, _QUERIES)
        if length <= step or bias is not None:
            return self._products(q, k, v, bias)
        parts = []
        for begin in range(0, length, step):
            end = min(begin + step, length)
            seen = slice(max(0, past + begin - window + 1), past + end)
            parts.append(self._products(q[:, :, begin:end], k[:, :, seen], v[:, :, seen]))
        return torch.cat(parts, 2)

    def _products(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q [B, H, S, D], k and v [B, H, K, D] -> [B, H, S, D]."""
        length, keys = q.shape[2], k.shape[2]
        shared = q.shape[1] != k.shape[1]
        square = self.causal and length == keys and keys <= (self.window or keys)
        if square and bias is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
        if self.causal:
            hidden = _hidden(length, keys, self.window, q.dtype, q.device)
            bias = hidden if bias is None or hidden is None else bias + hidden
        return F.scaled_dot_product_attention(q, k, v, bias, enable_gqa=shared)


# All layers of a stack ask for the same in turn, and so do all calls once a window is full.
@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _hidden(
    length: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """[S, K], minus infinity where a query may not see a key; None where it may see all."""
    if length == 1 and keys <= (window or keys):
        return None
    queries = torch.arange(keys - length, keys, device=device)[:, None]
    delta = queries - torch.arange(keys, device=device)
    visible = (delta >= 0) & (delta < (window or keys))
    return torch.zeros(length, keys, dtype=dtype, device=device).masked_fill(~visible, -torch.inf)


class KVCache:
    """Keys and values [B, H, S, D] of the positions that a stream may still look at.

    They lie in a buffer with room to spare, so that most calls only write what is new.
    """

    def __init__(self, window: int | None) -> None:
        self.length = 0  # positions so far
        self._window = window
        self._begin = self._end = 0  # of those that are kept, in the buffers
        self._keys = self._values = torch.zeros(0, 0, 0, 0)

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys, values [B, H, S, D] of new positions -> those of all that the new ones may see."""
        new = keys.shape[2]
        if self._window is not None:
            self._begin = max(self._begin, self._end - self._window + 1)
        if self._end + new > self._keys.shape[2]:
            kept = slice(self._begin, self._end)
            self._keys = self._moved(self._keys[:, :, kept], keys)
            self._values = self._moved(self._values[:, :, kept], values)
            self._begin, self._end = 0, self._end - self._begin
        end = self._end + new
        self._keys[:, :, self._end : end] = keys
        self._values[:, :, self._end : end] = values
        self._end, self.length = end, self.length + new
        return self._keys[:, :, self._begin : end], self._values[:, :, self._begin : end]

    def _moved(self, kept: Tensor, new: Tensor) -> Tensor:
        """A buffer that begins with what is kept and has room for more than what is new."""
        room = max(2 * (kept.shape[2] + new.shape[2]), 2 * (self._window or 0))
        buffer = new.new_empty(*new.shape[:2], room, new.shape[3])
        if kept.shape[2]:
            buffer[:, :, : kept.shape[2]] = kept
        return buffer


def _side_by_side(parameters: Sequence[Tensor]) -> Tensor:
    """One tensor, of which the parameters become pieces, so that nothing is kept twice."""
    joined = torch.cat([parameter.data for parameter in parameters])
    pieces = torch.split(joined, [len(parameter) for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.data = piece
    return joined
