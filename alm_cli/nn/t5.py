"""T5's encoder: a text as vectors, for models that listen to one (arXiv:1910.10683)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.attention import Attention
from alm_cli.nn.gated import RelativeBias
from alm_cli.nn.llama import GatedMLP
from alm_cli.nn.packed import pack_with
from alm_cli.nn.rounded import RoundedEmbedding, RoundedLinear, take_from_file
from alm_cli.nn.transformer import MLP, Block, Transformer


@dataclass(frozen=True, kw_only=True)
class T5Spec:
    """The sizes; distances share `buckets`, all beyond `furthest` the last of them.

    `gated`: the feed-forward part has a gate for each feature, as since version 1.1.
    """

    vocabulary: int = 32_128
    dimension: int = 768
    layers: int = 12
    heads: int = 12
    head_dimension: int = 64
    hidden: int = 3072
    buckets: int = 32
    furthest: int = 128
    epsilon: float = 1e-6
    gated: bool = False


class T5Encoder(nn.Module):
    """ids [B, N], mask [B, N] -> [B, N, D] float32.

    Its weights stay in float32 wherever the model that listens computes in half floats: T5 was
    trained in bfloat16 and leaves the range of float16.
    """

    def __init__(self, spec: T5Spec) -> None:
        super().__init__()
        self.dimension = spec.dimension
        # Not random at first: on the meta device that would import torch's compiler.
        table = torch.zeros(spec.vocabulary, spec.dimension)
        self.embedding: nn.Module = nn.Embedding(spec.vocabulary, spec.dimension, _weight=table)
        self.distances = RelativeBias(spec.heads, spec.buckets, spec.furthest)
        norm = partial(nn.RMSNorm, spec.dimension, eps=spec.epsilon)
        self.transformer = Transformer(
            Block(_attention(spec), _mlp(spec), norm) for _ in range(spec.layers)
        )
        self.norm = norm()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids [B, N], mask [B, N] that is 0 where nothing stands -> [B, N, D]."""
        with torch.autocast(ids.device.type, enabled=False):
            hidden = torch.zeros(mask.shape, device=ids.device).masked_fill(mask == 0, -torch.inf)
            # A row without anything would become no number at all.
            hidden = hidden.masked_fill((mask == 0).all(1, keepdim=True), 0)
            bias = self._biases(ids.shape[1]) + hidden[:, None, None]
            return self.norm(self.transformer(self.embedding(ids), bias=bias))

    def _biases(self, length: int) -> Tensor:
        """[H, N, N]: for each query from the first on, its distances to all keys."""
        # Of queries in reverse order these are windows of one row of numbers.
        return self.distances(length).contiguous().unfold(1, length, 1).flip(1)


def round_text(encoder: T5Encoder) -> None:
    """Keep the weights of an encoder as 8-bit numbers; it computes in float32 as before.

    They may lie in a mapped file until now.
    """
    pack_with(encoder, RoundedLinear)
    table = cast(nn.Embedding, encoder.embedding).weight.data
    encoder.embedding = RoundedEmbedding(table)
    take_from_file(encoder)
    encoder.eval()


def _attention(spec: T5Spec) -> Attention:
    # Products are not divided by anything: the first weights of training were small instead.
    return Attention(spec.dimension, spec.heads, head_dimension=spec.head_dimension, scale=1.0)


def _mlp(spec: T5Spec) -> nn.Module:
    if spec.gated:
        gelu = partial(F.gelu, approximate="tanh")
        return GatedMLP(spec.dimension, spec.hidden, activation=gelu)
    return MLP(spec.dimension, spec.hidden, activation=F.relu)
