"""The transformers that stand between the convolutions of a codec and its latent (Mimi, CALM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention
from alm_cli.nn.norm import LayerScale
from alm_cli.nn.position import Rotary, Style
from alm_cli.nn.transformer import MLP, Block, Transformer


@dataclass(frozen=True, kw_only=True)
class ContextSpec:
    """The sizes of such a transformer; `window` is how many vectors it sees, with its own."""

    dimension: int
    depth: int
    heads: int
    kv_heads: int
    head_dimension: int
    hidden: int
    window: int
    rotary: Style


def context_transformer(
    spec: ContextSpec, activation: Callable[[Tensor], Tensor] = F.gelu
) -> Transformer:
    """Causal blocks whose branches are scaled, feature by feature."""
    rotary = Rotary(spec.rotary)

    def block() -> Block:
        attention = Attention(
            spec.dimension,
            spec.heads,
            head_dimension=spec.head_dimension,
            kv_heads=spec.kv_heads,
            causal=True,
            window=spec.window,
            rotary=rotary,
        )
        norm, add = partial(nn.LayerNorm, spec.dimension), partial(LayerScale, spec.dimension)
        mlp = MLP(spec.dimension, spec.hidden, activation=activation)
        return Block(attention, mlp, norm, add)

    return Transformer(block() for _ in range(spec.depth))
