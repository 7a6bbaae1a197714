"""Projected codebooks against the modules of `transformers` and the obvious slow search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.projected_vq import ProjectedCodebook, ProjectedVQ


@torch.no_grad()
def quantizer(strides: tuple[int, ...] = (1, 1, 1), seed: int = 0) -> ProjectedVQ:
    """Books of 50 vectors of 4 dimensions for 12 features."""
    generator = torch.Generator().manual_seed(seed)
    books = ProjectedVQ(12, 50, 4, strides).requires_grad_(False)
    for tensor in books.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return books


def latents(frames: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 12, frames, generator=torch.Generator().manual_seed(frames))


def theirs(books: ProjectedVQ) -> Any:
    """The residual quantiser of `transformers` with the same weights."""
    from transformers import DacConfig
    from transformers.models.dac.modeling_dac import DacResidualVectorQuantizer

    config = DacConfig(encoder_hidden_size=6, downsampling_ratios=[1], n_codebooks=len(books.books))
    config.codebook_size, config.codebook_dim = 50, 4
    model = DacResidualVectorQuantizer(config).eval()
    names = {"into": "in_proj", "out": "out_proj"}
    weights = {}
    for name, tensor in books.state_dict().items():
        _, index, part, *leaf = name.split(".")
        path = [names[part], *leaf] if part in names else ["codebook", "weight"]
        weights[".".join(["quantizers", index, *path])] = tensor
    model.load_state_dict(weights)
    return model


@pytest.mark.oracle
@torch.no_grad()
def test_codes_and_sums_are_those_of_the_reference() -> None:
    books = quantizer()
    model, x = theirs(books), latents(300, batch=2)
    _, codes, *_ = model(x)
    assert torch.equal(books.encode(x), codes)
    assert torch.equal(books.encode(x, 2), codes[:, :2])
    assert len(codes.unique()) > 45
    torch.testing.assert_close(books.decode(codes), model.from_codes(codes)[0])


@pytest.mark.oracle
@torch.no_grad()
def test_trap_the_residual_is_left_by_the_straight_through_line() -> None:
    books = quantizer()
    x = latents(500)
    _, coded = books.books[0].encode(x)
    assert torch.equal(coded, theirs(books).quantizers[0](x)[0])
    plain = books.books[0].decode(books.encode(x, 1)[:, 0])
    assert not torch.equal(coded, plain), "z_e + (z_q - z_e) is not z_q to the last bit"
    torch.testing.assert_close(coded, plain)


@torch.no_grad()
def test_trap_the_nearest_direction_decodes_to_the_raw_vector() -> None:
    book = ProjectedCodebook(2, 3, 2).requires_grad_(False)
    for conv in (book.into, book.out):
        conv.weight.copy_(torch.eye(2)[..., None])
        conv.bias.zero_()
    book.vectors.copy_(torch.tensor([[0.1, 0.0], [0.0, 50.0], [-3.0, -3.0]]))
    # Nearer to the first by distance, to the second by direction.
    x = torch.tensor([[[0.2], [0.3]]])
    codes, coded = book.encode(x)
    assert codes.tolist() == [[1]]
    torch.testing.assert_close(coded, torch.tensor([[[0.0], [50.0]]]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_silence_has_no_direction_and_still_a_code() -> None:
    book = quantizer().books[0]
    book.into.bias.zero_()
    codes, coded = book.encode(torch.zeros(1, 12, 2))
    assert codes.tolist() == [[0, 0]] and coded.isfinite().all()


@torch.no_grad()
def test_the_search_is_that_of_the_largest_cosine() -> None:
    book = quantizer(seed=3).books[0]
    x = latents(200)
    codes, _ = book.encode(x)
    projected = F.conv1d(x.double(), book.into.weight.double(), book.into.bias.double())
    cosine = F.normalize(book.vectors.double()) @ F.normalize(projected[0], dim=0)
    assert torch.equal(codes[0], cosine.argmax(0))


@torch.no_grad()
def test_a_stride_codes_means_and_repeats() -> None:
    books = quantizer((4, 2, 1))
    x = latents(24)
    codes = books.encode(x)
    for stride, book in zip((4, 2), codes[0], strict=False):
        assert torch.equal(book, book[::stride].repeat_interleave(stride))
    means = x.unflatten(2, (6, 4)).mean(3)
    assert torch.equal(quantizer((1, 1, 1)).encode(means, 1)[0, 0], codes[0, 0, ::4])
    slow = sum(
        book.out(F.embedding(codes[:, k, :: book.stride], book.vectors).mT).repeat_interleave(
            book.stride, -1
        )
        for k, book in enumerate(books.books)
    )
    torch.testing.assert_close(books.decode(codes), slow)


@torch.no_grad()
def test_it_stays_in_float32_whatever_the_model_computes_in() -> None:
    books, x = quantizer(), latents(100)
    codes = books.encode(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(books.encode(x), codes)
        assert books.decode(codes).dtype == torch.float32
    for parameter in books.parameters():
        parameter.data = parameter.data.bfloat16()
    assert books.decode(books.encode(x.bfloat16())).dtype == torch.float32


@torch.no_grad()
def test_no_frames_have_no_codes() -> None:
    books = quantizer((2, 1, 1))
    codes = books.encode(torch.zeros(2, 12, 0), 2)
    assert codes.shape == (2, 2, 0) and codes.dtype == torch.int64
    assert books.decode(codes).shape == (2, 12, 0)
