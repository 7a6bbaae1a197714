"""Lines: never ended within a word, at the best places, with the pauses of punctuation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import InputError
from alm_cli.text.lines import PAUSE_S, Piece, cut, sentences
from alm_cli.text.markup import Break, End, Part
from alm_cli.text.reading import read_aloud


def cut_up(*parts: Part, longest: int = 60) -> list[Piece]:
    return cut(parts, longest, read_aloud)


def test_sentences_are_lines_with_pauses_between() -> None:
    found = cut_up("Hello there. Is Dr. Who 3.5 m tall? Well... yes!\n\nThe end.")
    assert found == [
        Piece("Hello there.", PAUSE_S),
        Piece("Is Doctor Who three point five meters tall?", PAUSE_S),
        Piece("Well... yes!", 2 * PAUSE_S),
        Piece("The end.", 0.0),
    ]


def test_long_sentences_are_cut_at_punctuation_and_else_between_words() -> None:
    text = "The quick brown fox, which nobody had seen, jumps over the lazy dog"
    first, second, third = cut_up(text, longest=30)
    assert (first.text, second.text) == ("The quick brown fox,", "which nobody had seen,")
    assert first.pause_s == second.pause_s == PAUSE_S / 2
    assert third.text == "jumps over the lazy dog"
    plain = cut_up("one two three four five six seven eight nine ten eleven", longest=30)
    assert all(len(piece.text) <= 30 for piece in plain)
    assert plain[0].pause_s == pytest.approx(PAUSE_S / 10)


def test_halves_are_of_about_one_length() -> None:
    first, second = cut_up(" ".join(["word"] * 13), longest=60)
    assert abs(len(first.text) - len(second.text)) <= 5


def test_a_break_is_exact_and_in_place_of_the_pause_of_punctuation() -> None:
    found = cut_up(Break(1.0), "One.", Break(0.2), Break(0.3), "two", Break(2.0))
    assert found == [
        Piece("", 1.0, exact=True), Piece("One.", 0.5, exact=True), Piece("two", 2.0, exact=True),
    ]  # fmt: skip


def test_elements_end_sentences_and_paragraphs() -> None:
    found = cut_up(End(True), End(), "one", End(), End(), "two", End(), End(True), "three")
    assert [(piece.text, piece.pause_s) for piece in found] == [
        ("one", pytest.approx(2 * PAUSE_S)), ("two", pytest.approx(2 * PAUSE_S)), ("three", 0.0),
    ]  # fmt: skip


def test_a_word_that_is_too_long_is_an_error() -> None:
    with pytest.raises(InputError, match="a word of 70 characters"):
        cut_up("short " + "a" * 70)


def test_phonemes_are_never_cut() -> None:
    phonemes = "[[" + "ə ˈb a " * 5 + "]]"
    found = cut_up(f"one two three four five {phonemes} six seven.", longest=50)
    assert sum(phonemes in piece.text for piece in found) == 1


@pytest.mark.parametrize("text", ["", "...", " \n\n ", "?!"])
def test_nothing_to_say_makes_no_lines(text: str) -> None:
    assert cut_up(text) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["a", "some", "longerword", "x,", "end.", "so;", "wow!"])))
def test_every_word_is_said_once_and_in_order(words: list[str]) -> None:
    text = " ".join(words)
    pieces = cut([text], 20, lambda paragraph: paragraph)
    assert " ".join(piece.text for piece in pieces).split() == words
    assert all(0 < len(piece.text) <= 20 for piece in pieces)
    assert " ".join(sentences(text)).split() == words
