"""Gated relative positions against the obvious sums."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from alm_cli.nn import gated
from alm_cli.nn.gated import GatedAttention, RelativeBias
from tests.laws import batch_equals_single


@torch.no_grad()
def parts() -> tuple[RelativeBias, GatedAttention]:
    torch.manual_seed(0)
    bias, attention = RelativeBias(4, 20, 30), GatedAttention(24, 4)
    for parameter in (*bias.parameters(), *attention.parameters()):
        nn.init.normal_(parameter, std=0.4)
    return bias, attention


def bucket(distance: int, buckets: int, furthest: int) -> int:
    """In double precision, which agrees wherever no bucket ends exactly."""
    half = buckets // 2
    single, far = half // 2, abs(distance)
    if far >= single:
        grown = math.log(far / single) / math.log(furthest / single) * (half - single)
        far = min(half - 1, single + int(grown))
    return far + half * (distance > 0)


@pytest.mark.parametrize(("buckets", "furthest"), [(20, 30), (320, 800), (8, 9)])
@torch.no_grad()
def test_far_distances_share_buckets(buckets: int, furthest: int) -> None:
    part = RelativeBias(1, buckets, furthest)
    part.weight.copy_(torch.arange(float(buckets))[:, None])
    made = part(500)[0].tolist()
    assert made == [bucket(distance, buckets, furthest) for distance in range(-499, 500)]


def obvious(part: GatedAttention, x: Tensor, bias: Tensor) -> Tensor:
    """x [S, D], bias [H, 2 S - 1] -> [S, D], head by head."""
    size, length, found = part.head_dimension, len(x), []
    q, k, v = part.q(x), part.k(x), part.v(x)
    for head in range(4):
        mine = slice(head * size, head * size + size)
        sums = part.gate(x[:, mine]).view(length, 2, 4).sum(-1).sigmoid()
        gate = sums[:, 0] * (sums[:, 1] * part.gate_scale[0, head, 0, 0] - 1) + 2
        rows = [bias[head, length - 1 - i : 2 * length - 1 - i] for i in range(length)]
        logits = q[:, mine] @ k[:, mine].mT / math.sqrt(size) + gate[:, None] * torch.stack(rows)
        found.append(logits.softmax(-1) @ v[:, mine])
    return part.out(torch.cat(found, -1))


@pytest.mark.parametrize("length", [1, 2, 7, 40])
@pytest.mark.parametrize("queries", [3, 128])
@torch.no_grad()
def test_it_is_the_softmax_of_products_and_gated_biases(
    length: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated, "_QUERIES", queries)
    relative, part = parts()
    x, bias = torch.randn(2, length, 24), relative(length)
    expected = torch.stack([obvious(part, row, bias) for row in x])
    torch.testing.assert_close(part(x, bias=bias), expected, atol=3e-5, rtol=0)


def test_a_row_does_not_see_its_neighbours() -> None:
    relative, part = parts()
    batch_equals_single(
        lambda x, _: part(x.mT, bias=relative(x.shape[-1])).mT, torch.randn(3, 24, 9)
    )
