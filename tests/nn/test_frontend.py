"""Convolutions as products where the signal lies, and a norm over time before it is heard."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alm_cli.checkpoints.wav2vec2 import taps_in_order
from alm_cli.nn import frontend
from alm_cli.nn.frontend import FrameConv, FrontEnd, FrontSpec, TimeNorm, frame_conv

SMALL = {"widths": (6, 4, 5), "kernels": (10, 3, 2), "strides": (5, 2, 2)}


@torch.no_grad()
def filled(part: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.5)
    return part


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (7, 3), (2, 5), (1, 1)])
@pytest.mark.parametrize("wide", [1, 3])
def test_a_product_is_the_convolution(kernel: int, stride: int, wide: int) -> None:
    weight, bias = torch.randn(4, wide, kernel), torch.randn(4)
    for length in (kernel, kernel + stride - 1, kernel + stride, 53):
        x = torch.randn(wide, length)
        expected = F.conv1d(x[None], weight, bias, stride)[0].mT
        made = frame_conv(x.mT.contiguous(), taps_in_order(weight), bias, stride)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1e-3, 0.0), (0.1, 5.0), (0.0, 0.0)])
def test_the_norm_over_time_is_foretold(gain: float, offset: float) -> None:
    conv, norm = filled(FrameConv(1, 8, 10, 5, bias=True)), filled(TimeNorm(8))
    assert isinstance(conv, FrameConv) and isinstance(norm, TimeNorm)
    wave = gain * torch.randn(3001) + offset
    made = frame_conv(wave[:, None], *norm.folded(conv, wave), conv.stride)
    # In double precision, or the reference loses what an offset leaves of its sums.
    slow = conv(wave[:, None]).double() if not offset else conv.double()(wave[:, None].double())
    expected = F.group_norm(slow.mT[None], 8, norm.weight.double(), norm.bias.double())[0].mT
    torch.testing.assert_close(made.double(), expected, atol=2e-4 if offset else 1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("over_time", [True, False])
def test_blocks_make_what_the_whole_makes(over_time: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    part = filled(FrontEnd(FrontSpec(**SMALL, over_time=over_time)))
    assert isinstance(part, FrontEnd)
    for length in (0, 29, 30, 49, 50, 999, 1000):
        wave, made = torch.randn(2, length), []
        for size in (3, 1000):
            monkeypatch.setattr(frontend, "_BLOCK_FRAMES", size)
            made.append(part(wave))
        frames = max(0, (length - 30) // 20 + 1)
        assert made[0].shape == (2, frames, 5) and part.spec.frames(length) == frames
        torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=0)


def test_the_published_sizes() -> None:
    spec = FrontSpec()
    assert (spec.hop, spec.window) == (320, 400)
    assert [spec.frames(length) for length in (0, 399, 400, 719, 720)] == [0, 0, 1, 1, 2]
