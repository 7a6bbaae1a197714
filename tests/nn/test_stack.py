"""The codec stack: its activation, its lengths, its streams."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.stack import ConvDecoder, ConvEncoder, Elu, ResidualUnit, StackParts, StackSpec
from tests.laws import batch_equals_single, past_is_fixed, streaming_equals_whole

SPEC = StackSpec(channels=2, width=4, features=6, ratios=(2, 3), dilations=(1, 3))


def parts(context: bool = False) -> StackParts:
    conv = partial(Conv, padding="replicate")

    def unit(width: int, dilation: int) -> nn.Module:
        first = conv(width, width // 2, 3, dilation=dilation)
        return ResidualUnit(Elu(), first, Elu(), conv(width // 2, width, 1))

    return StackParts(
        conv=conv,
        up=ConvTranspose,
        unit=unit,
        activation=lambda _: Elu(),
        context=(lambda width: conv(width, width, 2)) if context else None,
    )


def test_the_activation_is_as_exact_as_torchs() -> None:
    x = torch.cat((torch.linspace(-30, 30, 100_001), torch.logspace(-30, 2, 1001).neg()))
    exact = F.elu(x.double())
    assert (Elu()(x).double() - exact).abs().max() < 8e-8
    assert torch.equal(Elu()(x[x > 0]), x[x > 0])


def test_the_activation_of_extremes() -> None:
    x = torch.tensor([float("-inf"), -1e30, -0.0, 0.0, 1e30, float("inf"), float("nan")])
    assert Elu()(x).nan_to_num(7).tolist() == F.elu(x).nan_to_num(7).tolist()


def test_the_activation_leaves_its_input_alone_and_trains() -> None:
    x = torch.randn(1, 2, 8)
    before = x.clone()
    Elu()(x)
    assert torch.equal(x, before)
    x.requires_grad_()
    Elu()(x).sum().backward()
    assert x.grad is not None


def test_the_activation_in_half_precision_is_torchs() -> None:
    x = torch.randn(100).bfloat16()
    assert torch.equal(Elu()(x), F.elu(x))


@torch.no_grad()
@pytest.mark.parametrize("context", [False, True])
def test_frames_are_begun_hops_and_come_back_whole(context: bool) -> None:
    encoder, decoder = ConvEncoder(SPEC, parts(context)), ConvDecoder(SPEC, parts(context))
    for length in range(1, 40):
        latents = encoder(torch.randn(1, 2, length))
        assert latents.shape == (1, 6, -(-length // 6))
        assert decoder(latents).shape == (1, 2, latents.shape[2] * 6)


@torch.no_grad()
def test_an_unconvolved_skip_adds_the_input() -> None:
    unit = ResidualUnit(Elu(), Conv(2, 2, 1), Elu(), Conv(2, 2, 1))
    for parameter in unit.second.parameters():
        parameter.zero_()
    x = torch.randn(1, 2, 5)
    assert torch.equal(unit(x), x)


@pytest.mark.parametrize("context", [False, True])
def test_the_laws_hold_for_the_stack(context: bool) -> None:
    encoder, decoder = ConvEncoder(SPEC, parts(context)), ConvDecoder(SPEC, parts(context))
    x = torch.randn(2, 2, 101)
    for ends in ([6], [12, 18, 90, 96], range(6, 101, 6)):
        streaming_equals_whole(encoder, x, list(ends))
    batch_equals_single(encoder, x)
    past_is_fixed(encoder, x, 60, 10)
    z = torch.randn(2, 6, 20)
    for ends in ([1], [2, 3, 17], range(20)):
        streaming_equals_whole(decoder, z, list(ends))
    batch_equals_single(decoder, z)
    past_is_fixed(decoder, z, 10, 60)
