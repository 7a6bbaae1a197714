"""Llama's layers, which most language models share (arXiv:2302.13971, arXiv:2407.21783)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention, KVCache
from alm_cli.nn.linear import Linear
from alm_cli.nn.state import State
from alm_cli.nn.transformer import Block


@dataclass(frozen=True, kw_only=True)
class LlamaSpec:
    """The sizes of a stack; `kv_heads` are shared among `heads`, `hidden` is between the layers.

    `scale` is that of `Attention`.
    """

    dimension: int
    layers: int
    heads: int
    kv_heads: int
    head_dimension: int
    hidden: int
    epsilon: float = 1e-5
    scale: float | None = None


class Streams(State):
    """Several streams for one call, each of one row, however long each of them is by now."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[State]) -> None:
        super().__init__()
        self.rows = tuple(rows)


class Llama(nn.Module):
    """x [B, S, D] -> [B, S, D], normalised: attention, to what came before if `causal`, and gates.

    With a `State` the rows go on together from the same position; with `Streams`, each of the first
    rows continues a stream of its own, and those beyond fill the batch up: they hear nothing.
    """

    def __init__(self, spec: LlamaSpec, rotary: nn.Module, *, causal: bool = True) -> None:
        super().__init__()
        norm = partial(nn.RMSNorm, spec.dimension, eps=spec.epsilon)
        self.blocks = nn.ModuleList(
            Block(
                RowAttention(spec, rotary, causal=causal),
                GatedMLP(spec.dimension, spec.hidden),
                norm,
            )
            for _ in range(spec.layers)
        )
        self.norm = norm()

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        for block in self.blocks:
            x = block(x, None, state)
        return self.norm(x)


class GatedMLP(nn.Module):
    """Two linear layers, the first of which has a gate for each of its outputs (arXiv:2002.05202).

    The gate of SwiGLU, where no other activation is given.
    """

    def __init__(
        self, dimension: int, hidden: int, *, activation: Callable[[Tensor], Tensor] = F.silu
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate = Linear(dimension, hidden, bias=False)
        self.up = Linear(dimension, hidden, bias=False)
        self.down = Linear(hidden, dimension, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


class RowAttention(Attention):
    """Attention whose rows may be streams of different lengths."""

    def __init__(self, spec: LlamaSpec, rotary: nn.Module, *, causal: bool = True) -> None:
        super().__init__(
            spec.dimension,
            spec.heads,
            head_dimension=spec.head_dimension,
            kv_heads=spec.kv_heads,
            causal=causal,
            rotary=rotary,
            scale=spec.scale,
        )

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        state: State | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]; see `Attention`, and `Streams`."""
        if not isinstance(state, Streams):
            return super().forward(x, memory, state, bias)
        caches = [stream.get(self, lambda: KVCache(self.window)) for stream in state.rows]
        begins = [cache.length for cache in caches] + [0] * (len(x) - len(caches))
        q, k, v = self._projected(x, None, tuple(begins))
        collected = []
        # Row by row, without what would fill up the shorter ones: as each sounds alone.
        for row, (stream, cache) in enumerate(zip(state.rows, caches, strict=True)):
            stream.put(self, cache)
            own = slice(row, row + 1)
            collected.append(self._collected(q[own], *cache.extend(k[own], v[own]), None))
        y = torch.cat([*collected, torch.zeros_like(q[len(caches) :])])
        return self.out(y.transpose(1, 2).flatten(2))
