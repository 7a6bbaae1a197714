"""Nearest vectors, and what residual codes promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.quantize import (
    Codebook,
    ProjectedVQ,
    ResidualVQ,
    SplitVQ,
    TableCodebook,
    as_table,
)


def codebook(vectors: Tensor) -> Codebook:
    book = Codebook(*vectors.shape)
    book.vectors.copy_(vectors)
    return book


def quantizer(books: int = 4, vocabulary: int = 16, dimension: int = 3) -> ResidualVQ:
    torch.manual_seed(1)
    quantizer = ResidualVQ(books, vocabulary, dimension)
    for level, book in enumerate(quantizer.codebooks):
        book.vectors.normal_(0, 0.6**level)
    return quantizer


def test_the_code_is_the_nearest_vector() -> None:
    book = codebook(torch.randn(32, 5))
    x = torch.randn(2, 7, 5)
    distance = (x[:, :, None] - book.vectors).square().sum(-1)
    assert torch.equal(book.encode(x), distance.argmin(-1))
    assert torch.equal(book.decode(book.encode(book.vectors)), book.vectors)


def test_of_equal_vectors_the_first_wins() -> None:
    vectors = torch.randint(-9, 9, (6, 4)).float()  # whole numbers: no rounding breaks the tie
    vectors[4] = vectors[1]
    vectors[5] = vectors[1]
    assert codebook(vectors).encode(vectors[[5, 4, 1]]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("offset", [0.0, 1.0, 30.0, 300.0])
def test_distances_are_summed_in_the_order_of_encodec(offset: float) -> None:
    """Far from the origin the order of operations decides: the sum loses digits where it is."""
    torch.manual_seed(int(offset))
    vectors, x = offset + torch.randn(64, 16), offset + torch.randn(500, 16)
    table = vectors.t()
    distance = -(x.pow(2).sum(1, keepdim=True) - 2 * x @ table + table.pow(2).sum(0, keepdim=True))
    assert torch.equal(codebook(vectors).encode(x), distance.max(-1).indices)


def test_the_search_stays_in_float32() -> None:
    vectors = 8 + torch.randn(64, 16) / 10  # bfloat16 keeps 2 digits of these
    book, x = codebook(vectors), vectors + 0.001
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(book.encode(x), torch.arange(64))
    assert book.decode(torch.tensor([3])).dtype == torch.float32


def test_every_book_codes_what_the_ones_before_left() -> None:
    part, x = quantizer(), torch.randn(2, 3, 9)
    codes, residual = part.encode(x), x
    assert codes.shape == (2, 4, 9) and codes.dtype == torch.int64
    errors = [residual.square().mean()]
    for level, book in enumerate(part.codebooks):
        assert torch.equal(codes[:, level], book.encode(residual.mT))
        residual = residual - book.decode(codes[:, level]).mT
        errors.append(residual.square().mean())
    assert errors == sorted(errors, reverse=True)
    torch.testing.assert_close(x - part.decode(codes), residual)


def test_fewer_codebooks_are_a_prefix_that_decodes() -> None:
    part, x = quantizer(), torch.randn(1, 3, 9)
    for books in range(1, 5):
        codes = part.encode(x, books)
        assert torch.equal(codes, part.encode(x)[:, :books])
        assert part.decode(codes).shape == x.shape


def table(vectors: Tensor) -> TableCodebook:
    book = TableCodebook(*vectors.shape)
    book.table.copy_(as_table(vectors))
    return book


def split(semantic: int = 1, acoustic: int = 3) -> SplitVQ:
    torch.manual_seed(2)
    branches = [ProjectedVQ(books, 16, 6, 4, TableCodebook) for books in (semantic, acoustic)]
    for branch in branches:
        for level, book in enumerate(branch.codebooks):
            book.table.copy_(as_table(torch.randn(16, 4) * 0.6**level))
    return SplitVQ(*branches)


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("offset", [0.0, 1.0, 30.0, 300.0])
def test_a_table_is_searched_as_cdist_does(offset: float, count: int) -> None:
    torch.manual_seed(int(offset))
    vectors, x = offset + torch.randn(64, 16), offset + torch.randn(count, 16)
    nearest = torch.cdist(x[None], vectors[None])[0].argmin(-1)
    assert torch.equal(table(vectors).encode(x), nearest)
    assert torch.equal(table(vectors).decode(nearest), vectors[nearest])


def test_in_a_table_too_the_first_of_equal_vectors_wins() -> None:
    vectors = torch.randint(-9, 9, (6, 4)).float()
    vectors[4] = vectors[1]
    assert table(vectors).encode(vectors[[4, 1]]).tolist() == [1, 1]
    assert torch.equal(table(vectors).vectors, vectors)


def test_two_large_books_agree_wherever_rounding_does_not_decide() -> None:
    """Large enough for the product with few vectors."""
    torch.manual_seed(3)
    vectors, x = torch.randn(512, 128), torch.randn(2, 128)
    for count in (1, 2):
        assert torch.equal(table(vectors).encode(x[:count]), codebook(vectors).encode(x[:count]))


@torch.no_grad()
def test_codes_in_a_smaller_space_are_those_of_the_projection() -> None:
    part, x = split().acoustic, torch.randn(2, 6, 9)
    assert torch.equal(part.encode(x), ResidualVQ.encode(part, part.before(x)))
    codes = part.encode(x)
    expected = part.after(ResidualVQ.decode(part, codes))
    torch.testing.assert_close(part.decode(codes), expected)
    assert part.decode(codes).shape == x.shape


@torch.no_grad()
@pytest.mark.parametrize("semantic", [1, 2])
def test_both_branches_code_x_and_their_sum_decodes(semantic: int) -> None:
    part, x = split(semantic), torch.randn(2, 6, 9)
    codes = part.encode(x)
    assert codes.shape == (2, semantic + 3, 9)
    assert torch.equal(codes[:, :semantic], part.semantic.encode(x))
    assert torch.equal(codes[:, semantic:], part.acoustic.encode(x))
    for books in range(1, semantic + 4):
        assert torch.equal(part.encode(x, books), codes[:, :books])
        expected = part.semantic.decode(codes[:, : min(books, semantic)])
        if books > semantic:
            expected = expected + part.acoustic.decode(codes[:, semantic:books])
        torch.testing.assert_close(part.decode(codes[:, :books]), expected)
