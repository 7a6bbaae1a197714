"""Convolutions of a few frames are those of many."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.conv import Conv, ConvTranspose
from alm_cli.nn.narrow import NarrowConv, NarrowConvTranspose
from tests.laws import batch_equals_single, every, past_is_fixed, streaming_equals_whole

CONVS = {
    "plain": (7, {}),
    "one sample wide": (1, {}),
    "strided": (8, {"stride": 4}),
    "dilated": (3, {"dilation": 3}),
    "replicated, unbiased": (4, {"stride": 2, "padding": "replicate", "bias": False}),
    "a kernel below two strides": (5, {"stride": 3}),
    "in groups": (3, {"groups": 2}),
}
UPS = {
    "plain": (8, {"stride": 4}),
    "unbiased": (6, {"stride": 3, "bias": False}),
    "every feature by itself": (4, {"stride": 2, "groups": 6}),
    "in groups": (4, {"stride": 2, "groups": 2}),
    "a kernel below two strides": (5, {"stride": 3}),
    "a kernel above two strides": (7, {"stride": 2}),
    "no surplus": (3, {"stride": 3}),
}


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "kind"), CONVS.values(), ids=CONVS)
@pytest.mark.parametrize("length", [1, 2, 7, 12, 24, 700])
def test_it_is_the_convolution(kernel: int, kind: dict[str, object], length: int) -> None:
    part, plain = NarrowConv(6, 8, kernel, **kind), Conv(6, 8, kernel, **kind)  # type: ignore[arg-type]
    plain.load_state_dict(part.state_dict())
    x = torch.randn(2, 6, length)
    torch.testing.assert_close(part(x), plain(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "kind"), UPS.values(), ids=UPS)
@pytest.mark.parametrize("length", [1, 2, 7, 600, 1100])
def test_it_is_the_transposed_convolution(
    kernel: int, kind: dict[str, object], length: int
) -> None:
    part = NarrowConvTranspose(6, 12, kernel, **kind)  # type: ignore[arg-type]
    plain = ConvTranspose(6, 12, kernel, **kind)  # type: ignore[arg-type]
    plain.load_state_dict(part.state_dict())
    x = torch.randn(2, 6, length)
    torch.testing.assert_close(part(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "kind"), CONVS.values(), ids=CONVS)
def test_the_laws_hold(kernel: int, kind: dict[str, object]) -> None:
    part = NarrowConv(6, 8, kernel, **kind)  # type: ignore[arg-type]
    stride, x = part.stride, torch.randn(2, 6, 600)
    for ends in ([stride], [2 * stride, 100 * stride], every(stride, 600)):
        streaming_equals_whole(part, x, ends)
    batch_equals_single(part, x)
    past_is_fixed(part, x, 20 * stride, 20)


@pytest.mark.parametrize(("kernel", "kind"), UPS.values(), ids=UPS)
def test_the_laws_hold_for_the_transposed(kernel: int, kind: dict[str, object]) -> None:
    part = NarrowConvTranspose(6, 12, kernel, **kind)  # type: ignore[arg-type]
    x = torch.randn(2, 6, 700)
    for ends in ([1], [2, 3, 600], every(1, 700)):
        streaming_equals_whole(part, x, ends)
    batch_equals_single(part, x)
    past_is_fixed(part, x, 20, 20 * part.stride)


@torch.no_grad()
def test_nothing_in_is_nothing_out() -> None:
    part = NarrowConvTranspose(6, 12, 4, stride=2)
    assert part(torch.zeros(2, 6, 0)).shape == (2, 12, 0)


@torch.no_grad()
@pytest.mark.parametrize("length", [2, 700])
def test_it_computes_in_bfloat16(length: int) -> None:
    x = torch.randn(1, 6, length).bfloat16()
    assert NarrowConv(6, 8, 3).bfloat16()(x).dtype == torch.bfloat16
    assert NarrowConvTranspose(6, 8, 4, stride=2).bfloat16()(x).dtype == torch.bfloat16


def test_it_trains() -> None:
    part = NarrowConvTranspose(6, 12, 4, stride=2)
    part(NarrowConv(6, 6, 3)(torch.randn(1, 6, 5))).square().sum().backward()
    assert part.weight.grad is not None and part.weight.grad.abs().sum() > 0
