"""The trellis of a text: torch's CTC loss and torchaudio's aligner must agree with it."""

from __future__ import annotations

from itertools import pairwise, product
from math import exp, inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.decoding.hmm import (
    Path,
    Viterbi,
    chain,
    forward,
    log_likelihood,
    posteriors,
    viterbi,
)

Logprobs = NDArray[np.float64]


def random_logprobs(frames: int, symbols: int, seed: int, sharp: float = 2.0) -> Logprobs:
    """[F, V] with rows that sum to one."""
    scores = np.random.default_rng(seed).normal(size=(frames, symbols)) * sharp
    logprobs: Logprobs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return logprobs


def random_text(length: int, symbols: int, seed: int) -> list[int]:
    """Symbols above 0, repetitions among them."""
    text = np.random.default_rng(seed).integers(1, symbols, length)
    text[1::3] = text[0::3][: len(text[1::3])]
    return [int(symbol) for symbol in text]


def read(text: list[int], frames: int, seed: int, symbols: int = 9) -> Logprobs:
    """[F, V] of somebody who reads a text at an uneven pace, with pauses."""
    generator = np.random.default_rng(seed)
    places = np.sort(generator.choice(np.arange(1, frames, 2), len(text), replace=False))
    scores = generator.normal(size=(frames, symbols))
    scores[:, 0] += 6
    scores[places, 0] -= 6
    scores[places, text] += 6
    logprobs: Logprobs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return logprobs


def paths(text: list[int], frames: int) -> list[tuple[int, ...]]:
    """All ways through the states of a text, by the rules as they are told."""
    states = chain(text)
    last = states.states - 1
    allowed = []
    for path in product(range(states.states), repeat=frames):
        starts, ends = path[0] <= 1, path[-1] >= last - 1
        steps = all(
            b - a in (0, 1) or (b - a == 2 and b % 2 == 1 and text[b // 2] != text[a // 2])
            for a, b in pairwise(path)
        )
        allowed += [path] * (starts and ends and steps)
    return allowed


def pushed(search: Viterbi, logprobs: Logprobs, size: int) -> Path | None:
    """The result when so many frames come at a time."""
    for begin in range(0, len(logprobs), size):
        search.push(logprobs[begin : begin + size])
    return search.finish()


@pytest.mark.parametrize(("length", "frames"), [(0, 4), (1, 1), (7, 12), (20, 60), (45, 61)])
def test_the_forward_probability_is_the_ctc_loss_of_torch(length: int, frames: int) -> None:
    logprobs, text = random_logprobs(frames, 6, seed=length), random_text(length, 6, seed=3)
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(logprobs)[:, None], torch.tensor([text]), [frames], [length],
        reduction="sum",
    )  # fmt: skip
    assert -log_likelihood(logprobs, chain(text)) == pytest.approx(float(loss), rel=1e-9)


@pytest.mark.parametrize("text", [[], [1], [1, 1], [1, 2], [2, 2, 1]])
@pytest.mark.parametrize("frames", [4, 5])
def test_all_ways_are_counted_once_and_the_best_is_found(text: list[int], frames: int) -> None:
    logprobs, states = random_logprobs(frames, 3, seed=frames), chain(text)
    said = logprobs[:, states.symbols]
    scores = {path: float(said[np.arange(frames), path].sum()) for path in paths(text, frames)}
    assert exp(log_likelihood(logprobs, states)) == pytest.approx(sum(map(exp, scores.values())))
    best = viterbi(logprobs, states)
    assert best is not None
    assert tuple(best.states) == max(scores, key=scores.__getitem__)
    assert best.score == pytest.approx(max(scores.values()))
    assert best.logprobs.sum() == pytest.approx(best.score, rel=1e-5)
    # The posterior of a state is the share of the ways that are there.
    total, shares = sum(map(exp, scores.values())), posteriors(logprobs, states)
    for frame, state in np.ndindex(shares.shape):
        through = sum(exp(score) for path, score in scores.items() if path[frame] == state)
        assert shares[frame, state] == pytest.approx(through / total, abs=1e-12)


def test_posteriors_are_the_gradient_of_the_ctc_loss() -> None:
    text = random_text(9, 6, seed=1)
    logprobs = torch.from_numpy(random_logprobs(40, 6, seed=2)).requires_grad_()
    torch.nn.functional.ctc_loss(
        logprobs[:, None], torch.tensor([text]), [40], [9], reduction="sum"
    ).backward()
    states, said = chain(text), logprobs.detach().numpy()
    shares = posteriors(said, states)
    assert shares.sum(1) == pytest.approx(np.ones(40))
    by_symbol = np.zeros((40, 6))
    for state, symbol in enumerate(states.symbols):
        by_symbol[:, symbol] += shares[:, state]
    assert logprobs.grad is not None
    # torch gives the gradient through the softmax that made them.
    assert np.exp(said) - by_symbol == pytest.approx(logprobs.grad.numpy(), abs=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.oracle
@pytest.mark.parametrize(("length", "frames"), [(1, 3), (8, 12), (30, 90), (200, 700)])
def test_the_path_is_that_of_torchaudio(length: int, frames: int) -> None:
    from torchaudio.functional import forced_align

    for seed in range(5):
        logprobs = random_logprobs(frames, 12, seed=seed).astype(np.float32)
        text = random_text(length, 12, seed=seed)
        labels, scores = forced_align(torch.from_numpy(logprobs)[None], torch.tensor([text]))
        path = viterbi(logprobs, chain(text))
        assert path is not None
        assert np.array_equal(chain(text).symbols[path.states], labels[0].numpy())
        np.testing.assert_allclose(path.logprobs, scores[0].numpy(), atol=1e-5)


def test_trap_equal_neighbours_need_a_blank_between_them() -> None:
    logprobs = random_logprobs(5, 3, seed=0)
    assert viterbi(logprobs[:2], chain([1, 1])) is None
    assert log_likelihood(logprobs[:2], chain([1, 1])) == -inf
    path = viterbi(logprobs[:3], chain([1, 1]))
    assert path is not None and path.states.tolist() == [1, 2, 3]


def test_too_few_frames_have_no_way_and_no_frames_have_one_for_nothing() -> None:
    logprobs = random_logprobs(5, 4, seed=0)
    assert viterbi(logprobs, chain([1, 2, 3, 1, 2, 3])) is None
    assert viterbi(logprobs[:0], chain([1])) is None
    assert log_likelihood(logprobs[:0], chain([1])) == -inf
    nothing = viterbi(logprobs[:0], chain([]))
    assert nothing is not None and not len(nothing.states) and nothing.score == 0
    assert log_likelihood(logprobs[:0], chain([])) == 0
    silent = viterbi(logprobs, chain([]))
    assert silent is not None and silent.score == pytest.approx(float(logprobs[:, 0].sum()))
    assert forward(logprobs, chain([])).shape == (5, 1)


def test_another_blank() -> None:
    logprobs, text = random_logprobs(30, 5, seed=4), [1, 1, 3, 0, 2]
    turned = logprobs[:, [4, 0, 1, 2, 3]]
    plain = viterbi(turned, chain([symbol + 1 for symbol in text]))
    other = viterbi(logprobs, chain(text, blank=4))
    assert plain is not None and other is not None
    assert np.array_equal(plain.states, other.states)


@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(0, 30),
    frames=st.integers(1, 80),
    size=st.integers(1, 90),
)
@settings(max_examples=40, deadline=None)
def test_spans_are_where_each_symbol_is_said(
    seed: int, length: int, frames: int, size: int
) -> None:
    logprobs, text = random_logprobs(frames, 6, seed), random_text(length, 6, seed)
    states = chain(text)
    path = pushed(Viterbi(states), logprobs, size)
    whole = viterbi(logprobs, states)
    assert (path is None) == (whole is None)
    if path is None or whole is None:
        return
    assert np.array_equal(path.states, whole.states) and path.score == whole.score
    begins, ends = path.spans()
    assert len(begins) == len(ends) == length
    said = states.symbols[path.states]
    for symbol, begin, end in zip(text, begins, ends, strict=True):
        assert begin < end and set(said[begin:end]) == {symbol}
    assert all(a <= b for a, b in zip(ends, begins[1:], strict=False))


def test_what_all_ways_agree_on_is_settled_early_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = random_text(300, 9, seed=1)
    logprobs, states = read(text, 2000, seed=2), chain(text)
    whole = viterbi(logprobs, states)
    monkeypatch.setattr("alm_cli.decoding.hmm._SETTLE", 16)
    search, most = Viterbi(states, beam=60.0), 0
    for row in logprobs:
        search.push(row[None])
        most = max(most, len(search._steps))
    path = search.finish()
    assert whole is not None and path is not None
    assert np.array_equal(path.states, whole.states)
    np.testing.assert_array_equal(path.logprobs, whole.logprobs)
    assert most < 400


def test_a_beam_keeps_few_states_of_a_long_text_and_finds_the_same() -> None:
    text = random_text(2500, 9, seed=5)
    logprobs, states = read(text, 20_000, seed=6), chain(text)
    search, widest = Viterbi(states, beam=100.0, most=200), 0
    for begin in range(0, len(logprobs), 500):
        search.push(logprobs[begin : begin + 500])
        widest = max(widest, len(search._scores))
    path = search.finish()
    assert path is not None and widest <= 200
    # It is the best of all: no way is better than saying in each frame what is most probable.
    assert path.score == pytest.approx(float(logprobs.max(1).sum()), abs=20)


def test_a_beam_that_lost_the_end_says_so() -> None:
    text = [1] * 40
    logprobs = np.log(np.tile([0.98, 0.01, 0.01], (90, 1)))
    assert viterbi(logprobs, chain(text)) is not None
    search = Viterbi(chain(text), beam=0.5)
    assert pushed(search, logprobs, 10) is None


def test_impossible_symbols_leave_no_way() -> None:
    logprobs = random_logprobs(6, 4, seed=0)
    logprobs[:, 2] = -inf
    assert viterbi(logprobs, chain([1, 2])) is None
    assert viterbi(logprobs, chain([1, 3])) is not None
