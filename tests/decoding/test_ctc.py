"""Greedy and prefix beam decoding against sums over all paths, and against `transformers`."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import groupby, product
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.decoding.ctc import Hotwords, Spike, greedy, prefix_beam

VOCABULARY = ("", " ", *"abcdenorstu")


def random_logprobs(
    frames: int, symbols: int, seed: int, sharp: float = 2.0
) -> NDArray[np.float64]:
    """[F, V] with rows that sum to one."""
    scores = np.random.default_rng(seed).normal(size=(frames, symbols)) * sharp
    logprobs: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return logprobs


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """What a path writes."""
    return tuple(symbol for symbol, _ in groupby(path) if symbol != blank)


def all_texts(logprobs: NDArray[np.float64], blank: int) -> dict[tuple[int, ...], float]:
    """The probability of every text: the sum over all paths."""
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    frames, symbols = logprobs.shape
    for path in product(range(symbols), repeat=frames):
        sums[collapsed(path, blank)] += exp(sum(logprobs[np.arange(frames), path]))
    return sums


def spelt(text: str, per_letter: int = 2, sharp: float = 0.9) -> NDArray[np.float64]:
    """Log-probabilities whose best path writes a text: each letter, then a blank."""
    rows = []
    for letter in text:
        for symbol in (*[VOCABULARY.index(letter)] * (per_letter - 1), 0):
            row = np.full(len(VOCABULARY), (1 - sharp) / (len(VOCABULARY) - 1))
            row[symbol] = sharp
            rows.append(row)
    return np.log(np.array(rows))


def written(symbols: tuple[int, ...]) -> str:
    return "".join(VOCABULARY[symbol] for symbol in symbols)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(("frames", "symbols"), [(1, 3), (4, 3), (6, 3), (5, 4)])
def test_a_wide_beam_sums_over_all_paths(frames: int, symbols: int, blank: int) -> None:
    logprobs = random_logprobs(frames, symbols, seed=frames)
    texts = all_texts(logprobs, blank)
    found = prefix_beam(logprobs, blank, width=10_000)
    assert {one.symbols for one in found} == set(texts)
    for one in found:
        assert exp(one.logprob) == pytest.approx(texts[one.symbols], rel=1e-9)
    assert [one.logprob for one in found] == sorted((one.logprob for one in found), reverse=True)
    assert sum(exp(one.logprob) for one in found) == pytest.approx(1)


@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 8), width=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_narrow_beam_never_says_more_than_the_truth(seed: int, frames: int, width: int) -> None:
    logprobs = random_logprobs(frames, 3, seed)
    texts = all_texts(logprobs, 0)
    found = prefix_beam(logprobs, width=width)
    assert 1 <= len(found) <= width
    assert all(exp(one.logprob) <= texts[one.symbols] * (1 + 1e-9) for one in found)


def test_trap_the_best_text_need_not_be_that_of_the_best_path() -> None:
    """Two frames, blank 0.6 and a 0.4 in each: the best path is silent, but "a" is likelier."""
    logprobs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert greedy(logprobs) == []
    best, second = prefix_beam(logprobs, width=4)
    assert best.symbols == (1,) and exp(best.logprob) == pytest.approx(0.64)
    assert second.symbols == () and exp(second.logprob) == pytest.approx(0.36)


def test_trap_a_letter_is_written_twice_only_after_a_blank() -> None:
    say = {"a": [0.1, 0.9], ".": [0.9, 0.1]}
    for path, times in (("aa", 1), ("a.a", 2), ("aa.aa.a", 3), ("..", 0)):
        rows = np.log(np.array([say[letter] for letter in path]))
        assert len(greedy(rows)) == times
        assert greedy(rows) == [] or {spike.symbol for spike in greedy(rows)} == {1}


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(0, 4))
def test_greedy_collapses_and_tells_the_frames(path: list[int], blank: int) -> None:
    logprobs = np.full((len(path), 5), log(0.1))
    logprobs[np.arange(len(path)), path] = log(0.6)
    spikes = greedy(logprobs, blank)
    assert tuple(spike.symbol for spike in spikes) == collapsed(tuple(path), blank)
    for spike in spikes:
        assert set(path[spike.begin : spike.end]) == {spike.symbol}
        assert path[spike.end : spike.end + 1] != [spike.symbol]
        assert spike.begin == 0 or path[spike.begin - 1] != spike.symbol
        assert spike.probability == pytest.approx(0.6)


def test_a_spike_is_as_probable_as_its_best_frame() -> None:
    logprobs = np.log(np.array([[0.3, 0.7], [0.05, 0.95], [0.9, 0.1], [0.4, 0.6]]))
    first, second = greedy(logprobs)
    assert first == Spike(1, 0, 2, pytest.approx(0.95))
    assert second == Spike(1, 3, 4, pytest.approx(0.6))


@pytest.mark.oracle
def test_greedy_writes_what_the_tokenizer_of_transformers_decodes(tmp_path: Path) -> None:
    from transformers import Wav2Vec2CTCTokenizer

    texts = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAON'"]
    file = tmp_path / "vocab.json"
    file.write_text(json.dumps({text: number for number, text in enumerate(texts)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(file))
    ours = ["", "", "", "", " ", *texts[5:]]
    generator = np.random.default_rng(0)
    for length in (0, 1, 7, 60, 400):
        # Blanks and repetitions as often as in life; special symbols write nothing here.
        path = generator.choice(len(texts), length, p=[0.5, 0, 0, 0, 0.1, *[0.4 / 6] * 6])
        path = np.repeat(path, generator.integers(1, 4, length))
        logprobs = np.full((len(path), len(texts)), -9.0)
        logprobs[np.arange(len(path)), path] = -0.1
        spikes = greedy(logprobs)
        text = "".join(ours[spike.symbol] for spike in spikes).strip()
        assert text == tokenizer.decode(path)
        offsets = tokenizer.decode(path, output_char_offsets=True).char_offsets if length else []
        theirs = [(one["start_offset"], one["end_offset"]) for one in offsets]
        assert [(spike.begin, spike.end) for spike in spikes] == theirs


def test_the_floor_leaves_the_best_symbol_of_a_frame() -> None:
    logprobs = random_logprobs(30, 5, seed=1)
    spikes = tuple(spike.symbol for spike in greedy(logprobs))
    best = prefix_beam(logprobs, width=50, least=1.0)[0]
    assert best.symbols == spikes
    assert best.logprob < prefix_beam(logprobs, width=50)[0].logprob


def test_nothing_is_heard_in_nothing() -> None:
    empty = np.zeros((0, 4))
    assert greedy(empty) == []
    (only,) = prefix_beam(empty)
    assert only.symbols == () and only.logprob == 0


def test_a_hotword_wins_where_it_is_nearly_heard_and_not_elsewhere() -> None:
    said = spelt("a nurse", sharp=0.99)
    # The sound says "nurse" or, half as often, "norse".
    u, o = VOCABULARY.index("u"), VOCABULARY.index("o")
    frame = 2 * "a nurse".index("u")
    said[frame, u], said[frame, o] = log(0.6), log(0.3)
    assert written(prefix_beam(said)[0].symbols) == "a nurse"
    wanted = Hotwords(["norse"], VOCABULARY)
    assert written(prefix_beam(said, favours=wanted)[0].symbols) == "a norse"
    for words in (["cat"], ["nor"], ["norses"], [], [""]):
        found = prefix_beam(said, favours=Hotwords(words, VOCABULARY))
        assert written(found[0].symbols) == "a nurse"


@given(st.text(alphabet="abt ", max_size=12))
def test_the_gain_of_a_text_is_that_of_its_whole_hotwords(text: str) -> None:
    favours = Hotwords(["a", "tab", "batt"], VOCABULARY, per_letter=2.0)
    state, gain = favours.begin(), 0.0
    for letter in text:
        state, more = favours.step(state, VOCABULARY.index(letter))
        gain += more
    said = [word for word in text.split(" ") if word in ("a", "tab", "batt")]
    assert gain + favours.finish(state) == pytest.approx(2.0 * sum(map(len, said)))
