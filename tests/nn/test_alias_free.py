"""Alias-free activations against `transformers`, and their stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alm_cli.nn.alias_free import AliasFree, SnakeBeta
from alm_cli.nn.state import State
from tests.laws import batch_equals_single, every, streaming_equals_whole


def bend(width: int) -> AliasFree:
    torch.manual_seed(1)
    snake = SnakeBeta(width)
    snake.alpha.data.normal_()
    snake.beta.data.normal_()
    return AliasFree(snake)


def signal(length: int, width: int = 3, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, width, length, generator=generator) * 2


def theirs(part: AliasFree) -> Any:
    from transformers.models.xcodec2 import modeling_xcodec2

    snake = modeling_xcodec2.Xcodec2SnakeBeta(len(part.activation.alpha))
    snake.alpha.data, snake.beta.data = part.activation.alpha.data, part.activation.beta.data
    return modeling_xcodec2.Xcodec2AntiAliasedActivation1d(snake)


@pytest.mark.oracle
@torch.no_grad()
def test_it_is_that_of_the_reference() -> None:
    part = bend(3)
    reference = theirs(part)
    for length in (1, 2, 3, 5, 6, 11, 12, 13, 101, 1000):
        x = signal(length, batch=2)
        torch.testing.assert_close(part(x), reference(x), atol=2e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7, 11, 50])
def test_any_chunking_equals_the_whole(size: int) -> None:
    part = bend(3)
    for length in (1, 2, 5, 6, 10, 11, 12, 57):
        streaming_equals_whole(part, signal(length), every(size, length), atol=2e-6)


@torch.no_grad()
def test_an_empty_last_call_gives_what_is_owed() -> None:
    part, x, state = bend(3), signal(20), State()
    first = part(x, state)
    state.last = True
    rest = part(x[..., :0], state)
    assert (first.shape[-1], rest.shape[-1]) == (15, 5)
    torch.testing.assert_close(torch.cat((first, rest), -1), part(x), atol=2e-6, rtol=0)


def test_rows_do_not_see_one_another() -> None:
    batch_equals_single(bend(3), signal(40, batch=3), atol=2e-6)


@torch.no_grad()
def test_overtones_above_the_band_fold_back_less() -> None:
    """sin^2 doubles frequencies: 0.3 of the rate becomes 0.6, which sounds as 0.4."""
    tone, snake = torch.sin(torch.arange(4096) * 2 * torch.pi * 0.3)[None, None], SnakeBeta(1)

    def folded(y: Tensor) -> float:
        spectrum = torch.fft.rfft(y[0, 0, 48:-48] * torch.hann_window(4000)).abs()
        return float(spectrum[1590:1611].max() / spectrum[1190:1211].max())

    assert folded(AliasFree(snake)(tone)) < 0.4 * folded(snake(tone))
