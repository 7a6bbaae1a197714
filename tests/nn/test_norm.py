"""Scaling of features."""

from __future__ import annotations

import torch

from alm_cli.nn.norm import LayerScale


def test_every_feature_has_its_factor() -> None:
    part, x = LayerScale(3, 0.5), torch.ones(2, 4, 3)
    assert torch.equal(part(x, x), x * 1.5)
    part.scale.data = torch.tensor([1.0, 2.0, 3.0])
    assert part(x, x)[1, 2].tolist() == [2.0, 3.0, 4.0]
