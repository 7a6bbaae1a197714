"""What English speakers without rules of their own refuse, and how long they may take."""

from __future__ import annotations

import pytest

from alm_cli.errors import InputError
from alm_cli.systems.plain_english import check_english, longest_s, spaced


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "nothing"), (" \n", "nothing"), ("a [[b]]", "phonemes"), ("naïve Дом", "'Дом'")],
)
def test_what_it_cannot_say_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_english(text, "it")


def test_latin_letters_figures_and_signs_are_said() -> None:
    check_english("Naïve 😀 café, £5 + 3 %! [laughs] <b>", "it")


def test_a_text_may_take_as_long_as_the_slowest_need() -> None:
    slow = "one two three four five six seven eight nine ten"  # ten seconds, if slowly counted
    assert 9 < longest_s(slow) < 12
    assert longest_s("1 2 3 4 5 6 7 8 9 10") > longest_s(slow), "a figure is a word"
    assert longest_s("") == 3.0


def test_a_text_is_one_line() -> None:
    assert spaced(" a\r\n\tb  c\n") == "a b c"
