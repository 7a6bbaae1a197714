"""Convolutions against the obvious slow ones, and the laws of streams."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.conv import Conv, ConvTranspose, Padding, pad
from alm_cli.nn.state import State
from tests.laws import batch_equals_single, past_is_fixed, streaming_equals_whole

PADDINGS: tuple[Padding, ...] = ("zeros", "reflect", "replicate")
SHAPES = [
    shape
    for shape in product((1, 3, 6, 7), (1, 2, 3), (1, 2), PADDINGS)
    if (shape[0] - 1) * shape[2] + 1 >= shape[1]  # no gaps between windows
]


def sample(x: Tensor, index: int, padding: Padding) -> Tensor:
    """x [B, C, T] -> its sample [B, C] at an index outside of it as well."""
    length = x.shape[-1]
    if padding == "zeros" and not 0 <= index < length:
        return torch.zeros(x.shape[:2])
    if padding == "reflect":
        index = abs(index)
        index = index if index < length else 2 * (length - 1) - index
    return x[..., min(max(index, 0), length - 1)]


def slow(conv: Conv, x: Tensor, left: int, padding: Padding) -> Tensor:
    """One window after the other, `left` of it before the first sample."""
    frames = []
    for frame in range(-(-x.shape[-1] // conv.stride)):
        first = frame * conv.stride - left
        places = range(first, first + conv.weight.shape[2] * conv.dilation, conv.dilation)
        window = torch.stack([sample(x, place, padding) for place in places], -1)
        frames.append(torch.einsum("bck,dck->bd", window, conv.weight) + conv.bias)
    return torch.stack(frames, -1)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "stride", "dilation", "padding"), SHAPES)
def test_causal_equals_one_window_after_the_other(
    kernel: int, stride: int, dilation: int, padding: Padding
) -> None:
    conv = Conv(2, 3, kernel, stride=stride, dilation=dilation, padding=padding)
    for length in (19, 20, 21):
        x = torch.randn(2, 2, length)
        left = (kernel - 1) * dilation + 1 - stride
        torch.testing.assert_close(conv(x), slow(conv, x, left, padding), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "stride"), [(7, 1), (4, 1), (4, 2), (5, 2), (8, 4)])
def test_centred_puts_the_odd_sample_on_the_left(kernel: int, stride: int) -> None:
    conv = Conv(2, 3, kernel, stride=stride, causal=False)
    x = torch.randn(1, 2, 23)
    left = -(-(kernel - stride) // 2)
    torch.testing.assert_close(conv(x), slow(conv, x, left, "zeros"), atol=1e-5, rtol=0)


def test_groups_keep_features_apart() -> None:
    conv = Conv(4, 4, 3, groups=4)
    assert conv.weight.shape == (4, 1, 3)
    x = torch.randn(1, 4, 9)
    changed = x.clone()
    changed[:, 0] += 1
    assert torch.equal(conv(changed)[:, 1:], conv(x)[:, 1:])


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_any_chunking_equals_the_whole(data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, 4), "stride")
    kernel = data.draw(st.integers(stride, 9), "kernel")
    dilation = data.draw(st.integers(1, 3), "dilation")
    padding = data.draw(st.sampled_from(PADDINGS), "padding")
    causal = data.draw(st.booleans(), "causal")
    conv = Conv(3, 2, kernel, stride=stride, dilation=dilation, padding=padding, causal=causal)
    length = data.draw(st.integers(1, 120), "length")
    ends = data.draw(st.lists(st.integers(0, 120)), "ends")
    streaming_equals_whole(conv, torch.randn(1, 3, length), ends)


def test_an_empty_piece_in_between_changes_nothing() -> None:
    conv, x, state = Conv(1, 1, 3), torch.randn(1, 1, 8), State()
    first, second = conv(x[..., :5], state), conv(x[..., 5:], state)
    torch.testing.assert_close(torch.cat((first, second), -1), conv(x))


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_causal_convolution_does_not_look_ahead(padding: Padding) -> None:
    conv = Conv(2, 2, 6, stride=2, padding=padding)
    past_is_fixed(conv, torch.randn(1, 2, 60), 30, 15)
    batch_equals_single(conv, torch.randn(3, 2, 60))


def test_a_mirrored_start_is_owed_until_there_is_enough_to_mirror() -> None:
    conv, x, state = Conv(1, 1, 7, padding="reflect"), torch.randn(1, 1, 9), State()
    assert conv(x[..., :6], state).shape == (1, 1, 0)
    torch.testing.assert_close(conv(x[..., 6:], state), conv(x))


def test_a_centred_convolution_owes_the_frames_that_it_cannot_know() -> None:
    conv, x, state = Conv(1, 1, 5, causal=False), torch.randn(1, 1, 9), State()
    assert conv(x, state).shape == (1, 1, 7)
    state.last = True
    torch.testing.assert_close(conv(x[..., :0], state), conv(x)[..., 7:])


def test_a_signal_shorter_than_its_reflection_is_extended_by_zeros_first() -> None:
    x = torch.tensor([[[1.0, 2.0]]])
    # 1 2 0 0 0 mirrored on the left, and the three zeros cut off again.
    assert pad(x, 4, 0, "reflect").tolist() == [[[0, 0, 0, 2, 1, 2]]]
    # 1 2 0 0 mirrored on the right, and the two zeros' worth cut off at the end.
    assert pad(x, 0, 3, "reflect").tolist() == [[[1, 2, 0, 0, 0]]]


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (16, 8), (11, 5), (5, 5), (3, 1)])
def test_the_transposed_one_drops_its_surplus_on_the_right(kernel: int, stride: int) -> None:
    up = ConvTranspose(3, 2, kernel, stride=stride)
    x = torch.randn(2, 3, 13)
    full = F.conv_transpose1d(x, up.weight, up.bias, stride)
    torch.testing.assert_close(up(x), full[..., : 13 * stride], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_centred_transposed_one_drops_half_on_either_side() -> None:
    up = ConvTranspose(3, 2, 7, stride=2, causal=False)
    x = torch.randn(2, 3, 13)
    full = F.conv_transpose1d(x, up.weight, up.bias, 2)
    torch.testing.assert_close(up(x), full[..., 3:-2], atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_chunking_of_frames_equals_the_whole(data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, 6), "stride")
    kernel = data.draw(st.integers(stride, 14), "kernel")
    bias, causal = data.draw(st.booleans(), "bias"), data.draw(st.booleans(), "causal")
    up = ConvTranspose(2, 3, kernel, stride=stride, bias=bias, causal=causal)
    ends = data.draw(st.lists(st.integers(1, 30)), "ends")
    streaming_equals_whole(up, torch.randn(2, 2, 30), ends)


@torch.no_grad()
def test_the_right_end_can_be_cut_by_more() -> None:
    up = ConvTranspose(3, 2, 10, stride=5, causal=False, right=3)
    x = torch.randn(2, 3, 13)
    full = F.conv_transpose1d(x, up.weight, up.bias, 5)
    torch.testing.assert_close(up(x), full[..., 3:-3], atol=1e-5, rtol=0)
    streaming_equals_whole(up, x[:1], [1, 2, 7])


def test_training_reaches_weight_and_bias() -> None:
    conv, up = Conv(2, 3, 4, stride=2), ConvTranspose(3, 2, 4, stride=2)
    up(conv(torch.randn(1, 2, 12))).square().sum().backward()
    for part, parameter in product((conv, up), ("weight", "bias")):
        gradient = getattr(part, parameter).grad
        assert gradient is not None and gradient.abs().sum() > 0


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_channels_by_themselves_in_double_precision(dilation: int, bias: bool) -> None:
    conv = Conv(5, 5, 7, groups=5, dilation=dilation, bias=bias).double()
    x = torch.randn(2, 5, 40, dtype=torch.float64)
    padded = F.pad(x, (conv.context, 0))
    plain = F.conv1d(padded, conv.weight, conv.bias, dilation=dilation, groups=5)
    torch.testing.assert_close(conv(x), plain, atol=1e-14, rtol=0)
    streaming_equals_whole(conv, x, [1, 2, 7, 30], atol=1e-14)
