"""The nearest centroid against all distances."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.kmeans import Centroids


@pytest.mark.parametrize("number", [torch.float32, torch.float64])
def test_units_are_the_nearest_centroids(number: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(30, 8, generator=generator, dtype=number)
    x = torch.randn(3, 50, 8, generator=generator)
    units = Centroids(table).encode(x)
    assert torch.equal(units, torch.cdist(x.to(number), table[None]).argmin(-1))
    assert units.shape == (3, 50) and len(units.unique()) > 20
    assert Centroids(table).encode(x[:, :0]).shape == (3, 0)


def test_of_equal_centroids_the_first_wins() -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert Centroids(table).encode(table[None])[0].tolist() == [0, 1, 0, 3]


def test_the_search_is_exact_whatever_the_model_computes_in() -> None:
    table = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    x = table[None] + 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert Centroids(table).encode(x)[0].tolist() == list(range(500))
