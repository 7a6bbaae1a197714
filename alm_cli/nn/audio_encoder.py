"""Whisper's encoder, which audio language models share: mel bands to vectors (arXiv:2212.04356)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention
from alm_cli.nn.conv import Conv
from alm_cli.nn.transformer import MLP, Block


@dataclass(frozen=True, kw_only=True)
class AudioEncoderSpec:
    """The sizes of an encoder; `positions` is how many vectors the longest input becomes."""

    bands: int
    positions: int
    dimension: int
    heads: int
    layers: int
    hidden: int


class AudioEncoder(nn.Module):
    """mel [B, M, F] -> [B, ceil(F / 2), D], normalised.

    The positions are fixed: sines, then cosines, of rates from 1 to 1 / 10000. They come with the
    weights, and are rounded as those are.
    """

    positions: Tensor

    def __init__(self, spec: AudioEncoderSpec) -> None:
        super().__init__()
        wide = spec.dimension
        self.conv1 = Conv(spec.bands, wide, 3, causal=False)
        self.conv2 = Conv(wide, wide, 3, stride=2, causal=False)
        self.register_buffer("positions", torch.zeros(spec.positions, wide))
        self.blocks = nn.ModuleList(_block(spec) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(wide)

    def forward(self, mel: Tensor) -> Tensor:
        """mel [B, M, F] -> [B, ceil(F / 2), D]; F is at most twice the positions."""
        x = F.gelu(self.conv1(mel.to(self.conv1.weight.dtype)))
        x = F.gelu(self.conv2(x))
        # Contiguous: all that follows reads vector by vector.
        x = x.mT.contiguous()
        x += self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def _block(spec: AudioEncoderSpec) -> Block:
    # _compat_key_bias: keys have no bias; it would be the same for all of them, and fall out.
    attention = Attention(spec.dimension, spec.heads, bias=True, key_bias=False)
    mlp = MLP(spec.dimension, spec.hidden, bias=True)
    return Block(attention, mlp, partial(nn.LayerNorm, spec.dimension))
