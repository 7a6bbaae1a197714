"""Attention with near keys and values: the sums of the paper, one query and head at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.nn.near_attention import NearAttention


def slowly(part: NearAttention, x: Tensor) -> Tensor:
    """x [1, S, D] -> [1, S, D]."""
    q, k, v = (
        map_(x)[0].view(x.shape[1], -1, part.head_dimension) for map_ in (part.q, part.k, part.v)
    )
    out = torch.zeros_like(q)
    for head in range(q.shape[1]):
        for i in range(len(q)):
            near = {j: j - i + part.near for j in range(len(q)) if abs(j - i) <= part.near}
            keys = [
                k[j, head] + (part.near_keys[near[j]] if j in near else 0) for j in range(len(q))
            ]
            scores = torch.stack([q[i, head] @ key for key in keys]) * part.head_dimension**-0.5
            weights = scores.softmax(0)
            for j, weight in enumerate(weights):
                near_value = part.near_values[near[j]] if j in near else 0
                out[i, head] += weight * (v[j, head] + near_value)
    return part.out(out.flatten(1))[None]


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 4, 9])
@pytest.mark.parametrize("window", [1, 3])
def test_near_keys_and_values_are_moved(length: int, window: int) -> None:
    torch.manual_seed(length)
    part = NearAttention(12, 3, window).eval()
    x = torch.randn(1, length, 12)
    torch.testing.assert_close(part(x), slowly(part, x), atol=1e-5, rtol=0)
