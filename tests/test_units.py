"""Runs of units: counted, spelt out again, and what cannot be."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.errors import InputError
from alm_cli.units import DURATIONS, dedup, dedup_tokens, repeat, repeat_tokens
from alm_cli.values import Origin, Tokens


def row(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def tokens(codes: NDArray[np.int32]) -> Tokens:
    origin = Origin(
        codec="hubert-base-l6-km100", weights_sha256="0" * 64, rate=16_000, hop=320,
        frame_rate=50.0, vocabularies=(100,) * codes.shape[1], channels=1, source_rate=16_000,
        source_channels=1, source_length=320 * codes.shape[2], source_sha256="0" * 64,
    )  # fmt: skip
    return Tokens(codes, origin, {"scale": np.ones((1, 1), np.float32)})


@given(st.lists(st.integers(0, 3)))
def test_runs_become_units_and_durations(values: list[int]) -> None:
    units, durations = dedup(row(values))
    runs = [(unit, len(list(run))) for unit, run in groupby(values)]
    assert list(zip(units.tolist(), durations.tolist(), strict=True)) == runs
    assert units.dtype == durations.dtype == np.int32


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 1)))
def test_repeating_undoes_it(values: list[int]) -> None:
    spelt = repeat(*dedup(row(values)))
    assert spelt.dtype == np.int32
    assert spelt.tolist() == values


def test_durations_that_do_not_belong_are_refused() -> None:
    for durations in ([1], [1, 2, 3], [1, -1]):
        with pytest.raises(InputError, match="durations"):
            repeat(row([4, 5]), row(durations))


def test_tokens_keep_their_durations_beside_them() -> None:
    whole = tokens(row([7, 7, 7, 2, 7, 7])[None, None])
    short = dedup_tokens(whole)
    assert short.codes.tolist() == [[[7, 2, 7]]]
    assert short.side[DURATIONS].tolist() == [[3], [1], [2]]
    assert short.side[DURATIONS].dtype == np.float32
    assert short.origin == whole.origin
    again = repeat_tokens(short)
    assert np.array_equal(again.codes, whole.codes)
    assert again.side.keys() == whole.side.keys()
    assert dedup_tokens(tokens(np.zeros((1, 1, 0), np.int32))).frames == 0


def test_codes_that_do_not_repeat_together_are_refused() -> None:
    for streams, codebooks in ((1, 2), (2, 1)):
        with pytest.raises(InputError, match=f"{streams} streams of {codebooks} codebooks"):
            dedup_tokens(tokens(np.zeros((streams, codebooks, 4), np.int32)))
    with pytest.raises(InputError, match="no durations"):
        repeat_tokens(tokens(np.zeros((1, 1, 4), np.int32)))
