"""Residual vector quantisation: a codebook codes what those before it left (arXiv:2107.03312)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.nn.linear import product


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


class TableCodebook(nn.Module):
    """V vectors of D features as rows of `table` [V, D + 2]: a vector, 1, and its squared length.

    With them the distances to all vectors are one matrix product, the one of `torch.cdist`: its
    order of operations is what decides near ties in codecs that search with it (Mimi).
    """

    table: Tensor

    def __init__(self, vocabulary: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("table", as_table(torch.zeros(vocabulary, dimension)))

    @property
    def vectors(self) -> Tensor:
        """[V, D]."""
        return self.table[:, :-2]

    def encode(self, x: Tensor) -> Tensor:
        """x [..., D] -> codes [...] int64."""
        table, x = self.table.float(), x.float()
        length = x.square().sum(-1, keepdim=True)
        square = product(torch.cat((x * -2, length, torch.ones_like(length)), -1), table)
        # The root makes near distances equal, of which the first wins.
        return square.clamp_min_(0).sqrt_().argmin(-1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [...] -> [..., D] float32."""
        return torch.embedding(self.table.float(), codes)[..., :-2]


def as_table(vectors: Tensor) -> Tensor:
    """vectors [V, D] -> table [V, D + 2] of a `TableCodebook`."""
    length = vectors.square().sum(-1, keepdim=True)
    return torch.cat((vectors, torch.ones_like(length), length), -1)


class ResidualVQ(nn.Module):
    """K codebooks in turn; any first few of them decode, more coarsely.

    `book` makes each of them, of its vocabulary and dimension.
    """

    def __init__(
        self,
        codebooks: int,
        vocabulary: int,
        dimension: int,
        book: Callable[[int, int], nn.Module] = Codebook,
    ) -> None:
        super().__init__()
        self.codebooks = nn.ModuleList(book(vocabulary, dimension) for _ in range(codebooks))

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

    def _books(self, count: int | None) -> Iterator[Codebook]:
        return islice(cast("Iterator[Codebook]", iter(self.codebooks)), count)


class ProjectedVQ(ResidualVQ):
    """Residual quantisation in a space of `inside` dimensions, to and from which matrices lead."""

    def __init__(
        self,
        codebooks: int,
        vocabulary: int,
        dimension: int,
        inside: int,
        book: Callable[[int, int], nn.Module] = Codebook,
    ) -> None:
        super().__init__(codebooks, vocabulary, inside, book)
        self.before = nn.Conv1d(dimension, inside, 1, bias=False)
        self.after = nn.Conv1d(inside, dimension, 1, bias=False)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """x [B, D, F] -> codes [B, K, F] int64, of the first `codebooks`."""
        return super().encode(self.before(x), codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> [B, D, F]."""
        return self.after(super().decode(codes).to(self.after.weight.dtype))


class SplitVQ(nn.Module):
    """Two quantisers of the same x, whose codes stand one after another (arXiv:2410.00037).

    The first codes what is said, taught by another model; the second codes all of x once more, not
    what the first left of it. What they decode is added.
    """

    def __init__(self, semantic: ResidualVQ, acoustic: ResidualVQ) -> None:
        super().__init__()
        self.semantic, self.acoustic = semantic, acoustic

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """x [B, D, F] -> codes [B, K, F] int64, of the first `codebooks`."""
        first = len(self.semantic.codebooks)
        codes = self.semantic.encode(x, codebooks)
        if codebooks is not None and codebooks <= first:
            return codes
        more = None if codebooks is None else codebooks - first
        return torch.cat((codes, self.acoustic.encode(x, more)), 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> [B, D, F]."""
        first = len(self.semantic.codebooks)
        x = self.semantic.decode(codes[:, :first])
        return x if codes.shape[1] <= first else x + self.acoustic.decode(codes[:, first:])
