"""The ways to put a time by codebook matrix into steps: each has an inverse, and its length."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from alm_cli.decoding.coarse import defer, undefer
from alm_cli.decoding.delays import delay, undelay
from alm_cli.decoding.flat import flatten, unflatten

BATCHES, BOOKS, FRAMES = st.integers(1, 3), st.integers(1, 6), st.integers(0, 9)
NONE = -1


def matrix(batch: int, books: int, frames: int) -> Tensor:
    """codes [B, K, F], all of them different."""
    return torch.arange(batch * books * frames).view(batch, books, frames)


@given(BATCHES, BOOKS, FRAMES)
def test_unflatten_undoes_flatten_in_as_many_steps_as_there_are_codes(
    batch: int, books: int, frames: int
) -> None:
    codes = matrix(batch, books, frames)
    steps = flatten(codes)
    assert steps.shape == (batch, books * frames)
    assert torch.equal(unflatten(steps, books), codes)


@given(BATCHES, st.lists(st.integers(0, 12), min_size=1, max_size=6), FRAMES)
def test_undelay_undoes_delay_in_as_many_steps_as_frames_and_the_longest_lag(
    batch: int, lags: list[int], frames: int
) -> None:
    codes = matrix(batch, len(lags), frames)
    steps = delay(codes, lags, NONE)
    assert steps.shape[2] == frames + max(lags)
    assert torch.equal(undelay(steps, lags), codes)


@given(BATCHES, st.lists(st.integers(0, 12), min_size=1, max_size=5), FRAMES)
def test_undefer_undoes_defer_in_twice_as_many_steps_and_the_longest_lag(
    batch: int, lags: list[int], frames: int
) -> None:
    codes = matrix(batch, len(lags) + 1, frames)
    steps = defer(codes, lags, NONE)
    assert steps.shape[2] == 2 * frames + max(lags)
    assert torch.equal(undefer(steps, lags), codes)
    assert int((steps != NONE).sum()) == codes.numel(), "every code once"


def test_a_flat_sequence_goes_frame_by_frame_coarse_before_fine() -> None:
    codes = torch.tensor([[[1, 2, 3], [10, 20, 30]]])
    assert flatten(codes).tolist() == [[1, 10, 2, 20, 3, 30]]


def test_fine_codes_wait_for_the_last_coarse_one() -> None:
    codes = torch.tensor([[[1, 2], [10, 20], [100, 200]]])
    wanted = [[1, 2, -1, -1, -1], [-1, -1, 10, 20, -1], [-1, -1, -1, 100, 200]]
    assert defer(codes, (0, 1), NONE)[0].tolist() == wanted


@pytest.mark.parametrize("wrong", [3, 5])
def test_what_no_matrix_gives_is_refused(wrong: int) -> None:
    with pytest.raises(AssertionError):
        unflatten(torch.zeros(1, wrong), 2)
    with pytest.raises(AssertionError):
        undefer(torch.zeros(1, 3, wrong), (0, 0))


@pytest.mark.oracle
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_patterns_are_those_of_audiocraft(frames: int) -> None:
    """Theirs begin with one step of nothing more."""
    spec = find_spec("audiocraft")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("audiocraft is not installed")
    import sys
    from importlib.util import module_from_spec, spec_from_file_location

    file = f"{spec.submodule_search_locations[0]}/modules/codebooks_patterns.py"
    found = spec_from_file_location("codebooks_patterns", file)
    assert found is not None and found.loader is not None
    theirs = sys.modules[found.name] = module_from_spec(found)
    found.loader.exec_module(theirs)
    codes = matrix(2, 4, frames)

    def sequence(provider: object) -> Tensor:
        pattern = provider.get_pattern(frames)  # type: ignore[attr-defined]
        steps, _, _ = pattern.build_pattern_sequence(codes, NONE, keep_only_valid_steps=False)
        return steps[..., 1:]

    lags = (0, 1, 2)
    ours = defer(codes, lags, NONE)
    assert torch.equal(ours, sequence(theirs.CoarseFirstPattern(4, list(lags))))
    delayed = delay(codes, (0, 1, 2, 3), NONE)
    assert torch.equal(delayed, sequence(theirs.DelayedPatternProvider(4)))
    steps = sequence(theirs.UnrolledPatternProvider(4))
    assert torch.equal(steps.amax(1), flatten(codes)), "one code a step, the others are nothing"
