"""Residual quantisation in few dimensions, by direction alone (arXiv:2110.04627, 2306.06546)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectedCodebook(nn.Module):
    """A codebook [V, d] of few dimensions, and the projections from and to D features.

    The nearest vector is that of the nearest direction; it decodes to itself, at its own length.
    With a `stride`, one code stands for that many frames, of which it codes the mean.
    """

    vectors: Tensor

    def __init__(self, features: int, vocabulary: int, dimension: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.into = nn.Conv1d(features, dimension, 1)
        self.out = nn.Conv1d(dimension, features, 1)
        self.register_buffer("vectors", torch.zeros(vocabulary, dimension))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, D, F] float32 -> codes [B, F] int64 and what they stand for, [B, D, F]."""
        if self.stride > 1:
            x = F.avg_pool1d(x, self.stride, self.stride)
        projected = _pointwise(x, self.into)
        codes = self._nearest(projected.mT.flatten(0, 1)).view(x.shape[0], -1)
        found = F.embedding(codes, self.vectors.float()).mT
        # A trace of training: this is not `found` to the last bit, and what is left for the next
        # codebook, and so the codes of near ties, depends on it.
        found = projected + (found - projected)
        return self._repeated(codes), self._repeated(_pointwise(found, self.out))

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, F] -> [B, D, F] float32."""
        return _pointwise(F.embedding(codes, self.vectors.float()).mT, self.out)

    def _nearest(self, x: Tensor) -> Tensor:
        """x [N, d] -> codes [N], in the order of operations of the references."""
        x, table = F.normalize(x), F.normalize(self.vectors.float())
        distance = x.pow(2).sum(1, keepdim=True) - 2 * x @ table.mT
        distance += table.pow(2).sum(1)
        return distance.min(1).indices

    def _repeated(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.stride, -1) if self.stride > 1 else x


class ProjectedVQ(nn.Module):
    """K projected codebooks in turn, each for what those before it left.

    Codes of a book with a stride are repeated, so that all have as many frames as the input,
    which must be a multiple of every stride. All of it is computed in float32, whatever the model
    computes in: codes are the product, and a rounded distance is another code.
    """

    def __init__(
        self, features: int, vocabulary: int, dimension: int, strides: tuple[int, ...]
    ) -> None:
        super().__init__()
        books = (ProjectedCodebook(features, vocabulary, dimension, stride) for stride in strides)
        self.books = nn.ModuleList(books)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """x [B, D, F] -> codes [B, K, F] int64, of the first `codebooks`."""
        if not x.shape[-1]:
            shape = (x.shape[0], len(self._books(codebooks)), 0)
            return torch.zeros(shape, dtype=torch.int64, device=x.device)
        with torch.autocast(x.device.type, enabled=False):
            residual, codes = x.float(), []
            for book in self._books(codebooks):
                found, coded = book.encode(residual)
                codes.append(found)
                residual = residual - coded
            return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> [B, D, F] float32."""
        with torch.autocast(codes.device.type, enabled=False):
            total = torch.zeros((), device=codes.device)
            for book, indices in zip(self._books(codes.shape[1]), codes.unbind(1), strict=True):
                total = total + book.decode(indices)
            return total

    def _books(self, count: int | None) -> Sequence[ProjectedCodebook]:
        return cast("Sequence[ProjectedCodebook]", self.books[:count])


def _pointwise(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """x [B, C, F] -> [B, D, F], in float32."""
    if not x.shape[-1]:
        return x.new_zeros(x.shape[0], conv.out_channels, 0)
    bias = None if conv.bias is None else conv.bias.float()
    return F.conv1d(x, conv.weight.float(), bias)
