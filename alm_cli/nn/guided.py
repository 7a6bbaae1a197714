"""Layers of decoders that listen to a text, and of the same decoders guided by it.

With classifier-free guidance (arXiv:2207.12598) half of the rows hear nothing. What they would
collect from a text of zeros through maps without a bias is zero, so it is not computed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention, CrossAttention
from alm_cli.nn.state import State

Pair = tuple[Tensor, Tensor]  # keys and values


class TextAttention(CrossAttention):
    """Every row collects from a text of its own, whose keys and values are made once."""

    def forward(self, x: Tensor, heard: Pair, hidden: Tensor | None = None) -> Tensor:
        """x [B, S, D] -> [B, S, D]; `hidden` [B, 1, 1, M] is minus infinity where no text is."""
        y = F.scaled_dot_product_attention(self._split(self.q(x)), *heard, hidden)
        return self.out(y.transpose(1, 2).flatten(2))


class StepAttention(Attention):
    """Attention whose cache may be of another number type than what it computes in.

    Half floats are made wide again before the products: those of torch for half floats and a single
    query take three times as long on a processor.
    """

    def _products(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q [B, H, S, D], k and v [B, H, K, D] -> [B, H, S, D]."""
        return super()._products(q, k.to(q.dtype), v.to(q.dtype), bias)


class GuidedBlock(nn.Module):
    """Attention to the steps, attention to a text, then a feed-forward part.

    Each sees its input normalised and is added to it. Rows beyond those of the text hear nothing.
    """

    def __init__(
        self,
        attention: Attention,
        cross: TextAttention,
        mlp: nn.Module,
        norm: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(), attention
        self.cross_norm, self.cross = norm(), cross
        self.mlp_norm, self.mlp = norm(), mlp

    def forward(
        self,
        x: Tensor,
        heard: Pair,
        state: State | None = None,
        *,
        hidden: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """x [R, S, D] -> [R, S, D]; `heard` is what `cross` made of the texts of the first rows.

        `hidden` is for them, `bias` for the attention to the steps.
        """
        x = x + self.attention(self.attention_norm(x), None, state, bias)
        told = len(heard[0])
        y = x[:told] + self.cross(self.cross_norm(x[:told]), heard, hidden)
        x = y if told == len(x) else torch.cat((y, x[told:]))
        return x + self.mlp(self.mlp_norm(x))
