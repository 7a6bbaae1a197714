"""Scaled dot-product attention over a sequence, whole or streamed (arXiv:1706.03762)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.linear import Linear, Make, product
from alm_cli.nn.state import State

# So many queries or as many as the window is long go together; fewer would not be faster.
_QUERIES = 256


class Attention(nn.Module):
    """Every vector of a sequence collects from those that it may see.

    `causal`: from itself and those before; with a `window`, from the last `window` of these, so
    that a stream needs steady memory. `kv_heads` fewer than `heads` are shared among them
    (arXiv:2305.13245). `rotary` is a part such as `alm_cli.nn.position.Rotary`. `key_bias`: keys
    have a bias too, as all have by default. `scale` of the products is by default one over the root
    of a head's size.
    """

    def __init__(
        self,
        dimension: int,
        heads: int,
        *,
        head_dimension: int | None = None,
        kv_heads: int | None = None,
        bias: bool = False,
        key_bias: bool = True,
        causal: bool = False,
        window: int | None = None,
        rotary: nn.Module | None = None,
        scale: float | None = None,
        steady: bool = False,
    ) -> None:
        super().__init__()
        assert causal or window is None, "a window looks back only"
        self.head_dimension = head_dimension or dimension // heads
        self.causal, self.window, self.rotary, self.scale = causal, window, rotary, scale
        self.steady = steady
        # Of q, k and v one after another: where the heads of q end, and those of k.
        self._edges = heads, heads + (kv_heads or heads)
        wide, narrow = heads * self.head_dimension, (kv_heads or heads) * self.head_dimension
        self.q = Linear(dimension, wide, bias=bias)
        self.k = Linear(dimension, narrow, bias=bias and key_bias)
        self.v = Linear(dimension, narrow, bias=bias)
        self.out = Linear(wide, dimension, bias=bias)
        self.together: nn.Module | None = None
        self._joined: tuple[Tensor, Tensor | None] | None = None

    def pack(self, make: Make) -> None:
        """Let one part that `make` makes of weight and bias take the place of q, k and v."""
        joined = self._one_product()
        if joined is None:
            self.train(False)
            joined = self._one_product()
        assert joined is not None
        self.together, self._joined = make(*joined), None
        del self.q, self.k, self.v

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
            bias = bias if cache.hidden is None else cache.hidden
        y = self._collected(q, k, v, bias)
        return self.out(y.transpose(1, 2).flatten(2))

    def train(self, mode: bool = True) -> Attention:
        """As `nn.Module.train`; for inference, q, k and v are laid side by side in memory."""
        super().train(mode)
        if not mode and self.together is None:
            parts = (self.q, self.k, self.v)
            weight = _side_by_side([part.weight for part in parts])
            self._joined = weight, _side_by_side_biases(parts)
        return self

    def _projected(
        self, x: Tensor, memory: Tensor | None, begin: int | tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, S, D], memory [B, M, D] or None -> q, k and v [B, H, S or M, D]."""
        if self.together is not None:
            assert memory is None, "q, k and v are one"
            return self._parted(self._heads(self.together(x)), begin)
        joined = None if memory is not None else self._one_product()
        if joined is None:
            source = x if memory is None else memory
            q, k = self._heads(self.q(x)), self._heads(self.k(source))
            v = self._heads(self.v(source))
            return self._turned(q, begin), self._turned(k, begin), v
        return self._parted(self._heads(product(x, *joined)), begin)

    def _parted(self, y: Tensor, begin: int | tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v beside one another [B, 3 * H, S, D] -> each by itself."""
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

    def _turned(self, x: Tensor, begin: int | tuple[int, ...]) -> Tensor:
        """x [B, H, S, D] at positions from `begin` on, or from one a row, -> [B, H, S, D]."""
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
        attend: Callable[..., Tensor] = partial(
            F.scaled_dot_product_attention, enable_gqa=shared, scale=self.scale
        )
        if self.steady:
            attend = partial(steadily, scale=self.scale)
        elif square and bias is None:
            return attend(q, k, v, is_causal=True)
        if self.causal:
            hidden = _hidden(length, keys, self.window, q.dtype, q.device)
            if hidden is not None:
                bias = hidden if bias is None else bias + hidden
        return attend(q, k, v, bias)


def steadily(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """q [B, H, S, D], k and v [B, H, K, D] -> [B, H, S, D]; no row depends on how many there are.

    On a processor torch's own depends on it in its last digits: it parts the keys of single queries
    among its threads as there are rows, and how a product is rounded depends on where in memory the
    space of a thread begins. Two plain products are as fast for a few queries, and most are few.
    There k and v may have a narrower number type than q, of which the softmax is.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    chances = ((q * (scale or q.shape[-1] ** -0.5)).to(k.dtype) @ k.mT).to(q.dtype)
    if bias is not None:
        chances += bias
    return (chances.softmax(-1).to(v.dtype) @ v).to(q.dtype)


class CrossAttention(nn.Module):
    """Every vector of a sequence collects from a memory, whose keys and values are made once.

    They are `kept` in a number type of their own, if any.
    """

    kept: torch.dtype | None = None

    def __init__(
        self, dimension: int, heads: int, *, bias: bool = False, key_bias: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(dimension, dimension, bias=bias)
        self.k = Linear(dimension, dimension, bias=bias and key_bias)
        self.v = Linear(dimension, dimension, bias=bias)
        self.out = Linear(dimension, dimension, bias=bias)

    def heard(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """memory [B, M, D] -> keys and values, each [B, H, M, D / H], head by head in memory."""
        keys, values = self._split(self.k(memory)), self._split(self.v(memory))
        if self.kept is not None:
            keys, values = keys.to(self.kept), values.to(self.kept)
        return keys.contiguous(), values.contiguous()

    def forward(self, x: Tensor, heard: tuple[Tensor, Tensor]) -> Tensor:
        """x [R, S, D] -> [R, S, D], collected from `heard`, of which R is a multiple of the rows.

        Rows that share a memory lie beside one another; for the products they are one row with
        more queries, so that keys and values are read once.
        """
        keys, values = heard
        q = self._split(self.q(x).view(len(keys), -1, x.shape[-1]))
        y = steadily(q, keys, values)
        return self.out(y.transpose(1, 2).reshape(x.shape))

    def scores(self, x: Tensor, keys: Tensor, heads: Sequence[int]) -> Tensor:
        """x [B, S, D], keys of the memory -> [B, heads, S, M] float32, before the softmax."""
        chosen = list(heads)
        scale = (x.shape[-1] // self.heads) ** -0.25
        q = self._split(self.q(x))[:, chosen]
        return (q * scale @ (keys[:, chosen].to(q.dtype) * scale).mT).float()

    def _split(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> [B, H, S, D / H]."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


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

    # What is added to the products with what `extend` gives, where some of that is hidden.
    hidden: Tensor | None = None

    def __init__(self, window: int | None) -> None:
        self.length = 0  # positions so far
        self._window = window
        self._begin = self._end = 0  # of those that are kept, in the buffer
        self._buffer = torch.zeros(2, 0, 0, 0, 0)  # of keys and of values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys, values [B, H, S, D] of new positions -> those of all that the new ones may see."""
        new = keys.shape[2]
        if self._window is not None:
            self._begin = max(self._begin, self._end - self._window + 1)
        if self._end + new > self._buffer.shape[3]:
            self._buffer = self._moved(keys)
            self._begin, self._end = 0, self._end - self._begin
        end = self._end + new
        self._buffer[0, :, :, self._end : end] = keys
        self._buffer[1, :, :, self._end : end] = values
        self._end, self.length = end, self.length + new
        kept_keys, kept_values = self.kept.unbind()
        return kept_keys, kept_values

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was; rows [R] may repeat some and leave out others."""
        kept, size = self.kept, self._buffer.shape
        self._buffer = self._buffer.new_empty(2, len(rows), *size[2:])
        self.kept[:] = kept.index_select(1, rows)

    def rewind(self, steps: int) -> None:
        """Forget the last positions; what a window has let go of does not come back."""
        assert self._window is None and steps <= self.length, f"{steps} steps of {self.length}"
        self._end, self.length = self._end - steps, self.length - steps

    def fork(self) -> KVCache:
        """The same keys and values for a stream that goes on apart from this one."""
        other = copy(self)
        other._buffer = self._buffer.clone()
        return other

    def holding(self, kept: Tensor) -> KVCache:
        """A cache at the same position that keeps `kept` [2, B, H, S, D] of so many rows."""
        other = copy(self)
        other._buffer, other._begin, other._end = kept, 0, kept.shape[3]
        return other

    @property
    def kept(self) -> Tensor:
        """[2, B, H, S, D], what may still be looked at."""
        return self._buffer[..., self._begin : self._end, :]

    def _moved(self, new: Tensor) -> Tensor:
        """A buffer that begins with what is kept and has room for more than what is new."""
        kept = self._end - self._begin
        room = max(2 * (kept + new.shape[2]), 2 * (self._window or 0))
        buffer = new.new_empty(2, *new.shape[:2], room, new.shape[3])
        if kept:
            buffer[..., :kept, :] = self.kept
        return buffer


def _side_by_side_biases(parts: Sequence[Linear]) -> Tensor | None:
    """The biases of the parts as one tensor, zeros for those that have none; None: all have none.

    Those that have one keep it in a piece of the whole.
    """
    if all(part.bias is None for part in parts):
        return None
    return _side_by_side(
        [p.weight.new_zeros(len(p.weight)) if p.bias is None else p.bias for p in parts]
    )


def _side_by_side(parameters: Sequence[Tensor]) -> Tensor:
    """One tensor, of which the parameters become pieces, so that nothing is kept twice."""
    joined = torch.cat([parameter.data for parameter in parameters])
    pieces = torch.split(joined, [len(parameter) for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.data = piece
    return joined
