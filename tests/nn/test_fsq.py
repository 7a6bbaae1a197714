"""Finite scalar quantisation against `transformers` and against its own definition."""

from __future__ import annotations

from itertools import product
from math import prod
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alm_cli.nn.fsq import FSQ

LEVELS = ((4,) * 8, (8, 5, 5, 5), (2, 3), (7, 6, 2, 9), (16, 3))


def theirs(levels: tuple[int, ...]) -> Any:
    from transformers.models.xcodec2 import modeling_xcodec2

    config = SimpleNamespace(quantization_levels=levels)
    return modeling_xcodec2.Xcodec2FiniteScalarQuantization(config)


@pytest.mark.oracle
@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_codes_and_values_are_those_of_the_reference(levels: tuple[int, ...]) -> None:
    ours, reference = FSQ(levels), theirs(levels)
    x = torch.randn(5000, len(levels), generator=torch.Generator().manual_seed(0)) * 2
    assert len(ours.encode(x).unique()) > min(500, ours.vocabulary // 2)
    for given, expected in ((x, x), (ours.bound(x), reference.bound(x))):
        values, codes = reference(expected)
        assert torch.equal(ours.encode(given), codes.long())
        assert torch.equal(ours.decode(codes.long()), values)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_first_digit_is_the_least_significant(levels: tuple[int, ...]) -> None:
    ours = FSQ(levels)
    assert ours.vocabulary == prod(levels)
    values = ours.decode(torch.arange(ours.vocabulary))
    halves = torch.tensor([level // 2 for level in levels])
    digits = (values * halves + halves).round().long().tolist()
    counted = product(*(range(level) for level in reversed(levels)))
    assert digits == [list(reversed(number)) for number in counted]


def test_all_levels_are_reached_and_no_more() -> None:
    for levels in (2, 3, 4, 5, 8, 9):
        codes = FSQ((levels,)).encode(torch.linspace(-50, 50, 4001)[:, None])
        assert codes.tolist() == sorted(codes.tolist())
        assert set(codes.tolist()) == set(range(levels))


def test_trap_halves_are_rounded_to_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FSQ, "bound", lambda _, x: x)
    halves = torch.tensor([-1.5, -0.5, 0.5, 1.5])[:, None]
    assert (FSQ((5,)).encode(halves) - 2).tolist() == [-2, 0, 0, 2]


def test_trap_the_slack_lets_the_outermost_levels_be_overshot() -> None:
    bounded = FSQ((4, 5)).bound(torch.tensor([[-90.0, -90.0], [90.0, 90.0]]))
    expected = torch.tensor([[-2.0015, -2.002], [1.0015, 2.002]])
    torch.testing.assert_close(bounded, expected, atol=1e-6, rtol=0)


def test_trap_bounding_twice_is_not_bounding_once() -> None:
    ours, x = FSQ((4,) * 8), torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    once, twice = ours.encode(x), ours.encode(ours.bound(x))
    assert (once != twice).float().mean() > 0.5


def test_trap_it_computes_in_float32_whatever_the_model_does() -> None:
    ours, x = FSQ((4,) * 8), torch.randn(300, 8, generator=torch.Generator().manual_seed(0)) * 2
    rounded = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours.encode(x), FSQ((4,) * 8).encode(x.double().float()))
        assert torch.equal(ours.encode(rounded), ours.encode(rounded.float()))
        assert ours.bound(rounded).dtype == ours.decode(ours.encode(x)).dtype == torch.float32


def test_batches_are_their_rows() -> None:
    ours, x = FSQ((4, 3)), torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([ours.encode(row) for row in x])
    assert torch.equal(ours.encode(x), rows)
    assert ours.decode(rows).shape == (3, 7, 2)
    assert ours.encode(x[:, :0]).shape == (3, 0)


def test_one_level_is_refused() -> None:
    with pytest.raises(ValueError, match="one level"):
        FSQ((4, 1))
