"""Spelling as a favour: smoothed counts against slow ones, and what they do to a beam."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
import pytest

from alm_cli.decoding.ctc import Hotwords, prefix_beam
from alm_cli.decoding.spelling import STEP, Spelling, Together, counted

LETTERS = " abcd"
VOCABULARY = ("", *LETTERS, "?")
TEXTS = {"abba": 1.0, "a bad cab": 2.0, "dab": 1.0, "baa baa": 0.5}


def slowly(context: str, letter: str, order: int) -> float:
    """The smoothed probability, by its definition."""
    context = context[-order:] if order else ""
    counts: Counter[str] = Counter()
    for text, weight in TEXTS.items():
        padded = f" {text} "
        for place in range(max(len(context), 1), len(padded)):
            if padded[:place].endswith(context):
                counts[padded[place]] += weight  # type: ignore[assignment]
    below = slowly(context[1:], letter, order) if context else 1 / len(LETTERS)
    return (counts[letter] + len(counts) * below) / (counts.total() + len(counts))


def spelling(weight: float = 1.0, bonus: float = 0.0, order: int = 3) -> Spelling:
    contexts, rows = counted(TEXTS, LETTERS, order)
    return Spelling(LETTERS, contexts, rows, VOCABULARY, weight=weight, bonus=bonus)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_gains_are_smoothed_probabilities(order: int) -> None:
    contexts, _ = counted(TEXTS, LETTERS, order)
    known = {int(context) for context in contexts}
    favours = spelling(order=order)
    for text in ("abba", "dab", "cab bad", "ddc", "aaa b"):
        state, said = favours.begin(), " "
        for letter in text:
            state, gain = favours.step(state, VOCABULARY.index(letter))
            # The longest context that was counted.
            ends = [said[len(said) - n :] for n in range(min(order, len(said)), -1, -1)]
            used = next(end for end in ends if number(end) in known)
            expected = log(slowly(used, letter, order))
            assert gain == pytest.approx(expected, abs=STEP / 2 + 1e-9)
            said += letter
        assert favours.finish(state) == 0


def number(context: str) -> int:
    found = 0
    for letter in context:
        found = found * (len(LETTERS) + 1) + LETTERS.index(letter) + 1
    return found


def test_rare_long_contexts_are_left_out() -> None:
    all_of_them, _ = counted(TEXTS, LETTERS, 5, least=0.0)
    common, rows = counted(TEXTS, LETTERS, 5, least=2.0)
    assert set(common) < set(all_of_them)
    assert len(common) == len(set(common.tolist())) == len(rows)
    probabilities = np.exp(-STEP * rows.astype(float)).sum(1)
    assert probabilities == pytest.approx(np.ones(len(rows)), abs=0.1)


def test_weight_and_bonus_make_the_gain() -> None:
    plain, other = spelling(), spelling(weight=0.5, bonus=0.7)
    symbol = VOCABULARY.index("b")
    _, gain = plain.step(plain.begin(), symbol)
    assert other.step(other.begin(), symbol)[1] == pytest.approx(0.5 * gain + 0.7)


def test_unknown_symbols_gain_nothing_and_begin_anew() -> None:
    favours = spelling()
    state, _ = favours.step(favours.begin(), VOCABULARY.index("c"))
    assert favours.step(state, VOCABULARY.index("?")) == (favours.begin(), 0.0)


def test_a_beam_writes_what_is_spelt_where_the_sound_leaves_a_choice() -> None:
    def heard(text: str, unsure: dict[int, tuple[str, float]]) -> np.ndarray:
        rows = np.full((2 * len(text), len(VOCABULARY)), 1e-4)
        for place, letter in enumerate(text):
            rows[2 * place, VOCABULARY.index(letter)] = 0.99
            rows[2 * place + 1, 0] = 0.99
            if place in unsure:
                other, share = unsure[place]
                rows[2 * place, VOCABULARY.index(letter)] = 1 - share
                rows[2 * place, VOCABULARY.index(other)] = share
        return np.log(rows)

    def written(rows: np.ndarray, favours: object) -> str:
        (best, *_) = prefix_beam(rows, favours=favours)  # type: ignore[arg-type]
        return "".join(VOCABULARY[symbol] for symbol in best.symbols)

    favours = spelling(weight=0.5, bonus=0.5)
    nearly = heard("a bcd cab", {3: ("a", 0.4)})
    assert written(nearly, None) == "a bcd cab"
    assert written(nearly, favours) == "a bad cab"
    # What is clearly heard is written however it is spelt.
    clear = heard("ddcdc", {})
    assert written(clear, favours) == "ddcdc"
    both = Together(favours, Hotwords(["bcd"], VOCABULARY, per_letter=2.0))
    assert written(nearly, both) == "a bcd cab"
    assert both.finish(both.begin()) == 0
