"""Residual blocks against their definition."""

from __future__ import annotations

import torch

from alm_cli.nn.resnet import ResNetBlock
from tests.laws import batch_equals_single


def block() -> ResNetBlock:
    torch.manual_seed(0)
    part = ResNetBlock(8, groups=4)
    for norm in (part.first_norm, part.second_norm):
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    return part


def vectors(length: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 8, length, generator=torch.Generator().manual_seed(length))


@torch.no_grad()
def test_it_adds_to_its_input_what_two_convolutions_make_of_its_groups() -> None:
    part, x = block(), vectors(11)
    y = x.double()
    for norm, conv in ((part.first_norm, part.first), (part.second_norm, part.second)):
        groups = y.reshape(4, -1)
        deviation = (groups.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
        y = ((groups - groups.mean(1, keepdim=True)) / deviation).view(1, 8, 11)
        y = y * norm.weight[:, None] + norm.bias[:, None]
        y = y * y.sigmoid()
        y = torch.nn.functional.conv1d(y, conv.weight.double(), conv.bias.double(), padding=1)
    torch.testing.assert_close(part(x), (x + y).float(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_every_frame_depends_on_all_of_the_signal() -> None:
    part, x = block(), vectors(30)
    changed = x.clone()
    changed[..., -1] += 5
    assert (part(changed) != part(x)).any(1).all()


def test_rows_do_not_see_one_another() -> None:
    batch_equals_single(lambda x, _: block()(x), vectors(9, batch=3))
