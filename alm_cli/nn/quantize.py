"""Residual vector quantisation: a codebook codes what those before it left (arXiv:2107.03312)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Codebook(nn.Module):
    """V vectors of D features, `vectors` [V, D]; codes are indices of the nearest one.

    The search is done in float32 whatever the model computes in: codes are the product, and a
    rounded distance is another code.
    """

    vectors: Tensor

    def __init__(self, vocabulary: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(vocabulary, dimension))

    def encode(self, x: Tensor) -> Tensor:
        """x [..., D] -> codes [...] int64."""
        table, x = self.vectors.float().mT, x.float()
        # EnCodec's order of operations, (|x|^2 - 2 x.e) + |e|^2: another order rounds differently
        # and flips near ties. Of equal distances the first wins.
        with torch.autocast(x.device.type, enabled=False):
            distance = (x * -2) @ table
        distance += x.pow(2).sum(-1, keepdim=True)
        distance += table.pow(2).sum(0)
        return distance.min(-1).indices

    def decode(self, codes: Tensor) -> Tensor:
        """codes [...] -> [..., D] float32."""
        return F.embedding(codes, self.vectors.float())


class ResidualVQ(nn.Module):
    """K codebooks in turn; any first few of them decode, more coarsely."""

    def __init__(self, codebooks: int, vocabulary: int, dimension: int) -> None:
        super().__init__()
        books = (Codebook(vocabulary, dimension) for _ in range(codebooks))
        self.codebooks = nn.ModuleList(books)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """x [B, D, F] -> codes [B, K, F] int64, of the first `codebooks`."""
        residual, codes = x.mT.float().contiguous(), []
        for book in self._books(codebooks):
            codes.append(book.encode(residual))
            residual = residual - book.decode(codes[-1])
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> [B, D, F] float32."""
        total = torch.zeros((), device=codes.device)
        for book, indices in zip(self._books(codes.shape[1]), codes.unbind(1), strict=True):
            total = total + book.decode(indices)
        return total.mT

    def _books(self, count: int | None) -> Sequence[Codebook]:
        return cast("Sequence[Codebook]", self.codebooks[:count])
