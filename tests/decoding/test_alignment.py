"""Times of words from where a model looks, against `openai-whisper`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.decoding.alignment import (
    TimedWord,
    attention_map,
    median_filter,
    merge_punctuation,
    timed_words,
    token_starts,
    warp,
)


@pytest.fixture(scope="module")
def timing() -> Any:
    """Theirs, not compiled, which would take longer than to run it."""
    timing = pytest.importorskip("whisper.timing", reason="needs the package openai-whisper")
    timing.dtw_cpu = getattr(timing.dtw_cpu, "py_func", timing.dtw_cpu)
    timing.backtrace = getattr(timing.backtrace, "py_func", timing.backtrace)
    return timing


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 7), (5, 60), (30, 12)])
@pytest.mark.parametrize("kind", ["noise", "ties", "equal", "two values"])
def test_section_5_10_warping_is_that_of_the_other_even_where_ways_tie(
    timing: Any, shape: tuple[int, int], kind: str
) -> None:
    draw = np.random.default_rng(sum(shape))
    for _ in range(4):
        cost = {
            "noise": lambda: draw.standard_normal(shape),
            "ties": lambda: draw.integers(0, 3, shape).astype(float),
            "equal": lambda: np.zeros(shape),
            "two values": lambda: draw.choice([0.1, -0.2], shape),
        }[kind]()
        expected = timing.dtw_cpu(cost.copy())
        assert np.array_equal(np.stack(warp(cost)), expected)


@pytest.mark.oracle
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 40])
def test_medians_are_those_of_the_other_even_of_what_is_too_short(timing: Any, length: int) -> None:
    x = torch.randn(3, 2, length, generator=torch.Generator().manual_seed(length))
    assert torch.equal(median_filter(x, 7), timing.median_filter(x, 7))


def test_the_way_of_a_clear_picture_is_that_picture() -> None:
    looked = torch.full((4, 30), -1.0)
    for row, edge in enumerate([0, 4, 11, 25]):
        looked[row, edge : [4, 11, 25, 30][row]] = 1.0
    assert token_starts(looked).tolist() == [0, 4, 11, 25]


def test_heads_count_alike_however_sharp_they_are() -> None:
    scores = torch.randn(2, 5, 20, generator=torch.Generator().manual_seed(0))
    scores[1] *= 0.01
    looked = attention_map(scores, 16)
    assert looked.shape == (5, 16)
    blunt, sharp = (attention_map(scores[n : n + 1], 16).std() for n in (1, 0))
    assert 0.5 < float(blunt / sharp) < 2


def test_a_head_that_looks_the_same_way_says_nothing() -> None:
    assert torch.equal(attention_map(torch.zeros(1, 4, 12), 12), torch.zeros(4, 12))


def test_words_have_the_times_of_their_tokens() -> None:
    words = timed_words([" a", " bc"], [[1], [2, 3]], np.array([0.0, 0.5, 0.7, 1.1]), [0.5, 1, 0])
    assert [(w.text, w.start_s, w.end_s, w.probability) for w in words] == [
        (" a", 0.0, 0.5, 0.5),
        (" bc", 0.5, 1.1, 0.5),
    ]


@pytest.mark.oracle
@pytest.mark.parametrize(
    "texts",
    [
        [" (", "what", ")", " is", " \"", " this", ".", "\"", "?"],
        [" -", " -", "a", "-", " ", "b"],
        [".", ",", " ", " \u00bf"],
        [" a"],
        [" \"'", "x", "\"'", ". ", "."],
    ],
)  # fmt: skip
def test_signs_join_to_words_as_there(timing: Any, texts: list[str]) -> None:
    theirs = [timing.WordTiming(text, [n], n, n + 1, 1.0) for n, text in enumerate(texts)]
    ours = [TimedWord(text, n, n + 1, 1.0, [n]) for n, text in enumerate(texts)]
    before, after = "\"'\u201c\u00bf([{-", "\"'.\u3002,!?:)]}"
    timing.merge_punctuations(theirs, before, after)
    merge_punctuation(ours, before, after)
    assert [(w.text, w.tokens) for w in ours] == [(w.word, w.tokens) for w in theirs]
