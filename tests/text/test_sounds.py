"""English as sounds: words, pauses, phonemes that are written out."""

from __future__ import annotations

import pytest

from alm_cli.errors import InputError
from alm_cli.text.phonemes import PHONEMES, Lexicon, contexts, english, packed, unpacked
from alm_cli.text.sounds import ipa, sounds


def test_words_and_pauses_are_in_order() -> None:
    said = sounds("Hello there, cat!")
    assert said.words == ("Hello", "there", "cat")
    assert said.symbols == (
        *("^", "hh", "ax", "l", "ow", "dh", "eh", "r", ",", "k", "ae", "t", "!"),
    )  # fmt: skip
    assert said.owners == (-1, 0, 0, 0, 0, 1, 1, 1, -1, 2, 2, 2, -1)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("yes", "."),
        ("yes,", "."),
        ("yes?", "?"),
        ("yes ...", "."),
        ("yes, --!", "!"),
        ("yes -", "."),
    ],
)
def test_a_line_ends_with_a_full_pause(text: str, end: str) -> None:
    said = sounds(text)
    assert said.symbols == ("^", "y", "eh", "s", end)


def test_every_sentence_begins_anew() -> None:
    assert sounds("No. No.").symbols == ("^", "n", "ow", ".", "^", "n", "ow", ".")
    assert sounds("(No) no").symbols == ("^", "n", "ow", ",", "n", "ow", ".")


def test_phonemes_can_be_written_out() -> None:
    assert sounds("say [[təˈmeɪtoʊ]] now").symbols[4:10] == ("ax", "m", "ey", "t", "ow", "n")
    assert ipa("tʃɜːtʃ") == ("ch", "er", "ch")
    assert sounds("say [[təˈmeɪtoʊ]] now").words == ("say", "[[təˈmeɪtoʊ]]", "now")


@pytest.mark.parametrize("text", ["", "...", " , ", "[[]]"])
def test_nothing_to_say_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="nothing to say"):
        sounds(text)


@pytest.mark.parametrize(("text", "named"), [("naïve", "naïve"), ("Привет", "Привет")])
def test_other_letters_are_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        sounds(text)


def test_an_unknown_phoneme_is_named() -> None:
    with pytest.raises(InputError, match="'ǃ' is no English sound"):
        sounds("[[ǃa]]")


def test_words_of_the_lexicon_are_said_as_listed() -> None:
    lexicon = english()
    assert lexicon.phonemes("though") == ("dh", "ow")
    assert lexicon.phonemes("cough") == ("k", "aa", "f")
    assert lexicon.phonemes("colonel") == ("k", "er", "n", "ax", "l")


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("blick", "b l ih k"), ("sproats", "s p r ow t s"), ("gleeming", "g l iy m ih ng")],
)
def test_unknown_words_are_read_by_rules(word: str, wanted: str) -> None:
    lexicon = english()
    assert word not in lexicon.words
    assert lexicon.phonemes(word) == tuple(wanted.split())


def test_all_sounds_of_the_lexicon_are_known() -> None:
    lexicon = english()
    used = {s for table in (lexicon.words, lexicon.rules) for said in table.values() for s in said}
    assert used == set(PHONEMES)


def test_the_widest_listed_context_decides() -> None:
    rules = {"[a]": ("ae",), "[a]r": ("aa",), "[c]": ("k",), "[r]": ("r",), "c[a]r": ("eh",)}
    lexicon = Lexicon({"arc": ("x",)}, rules)
    assert lexicon.guess("car") == ("k", "eh", "r")
    assert lexicon.guess("bar") == ("aa", "r")
    assert lexicon.phonemes("arc") == ("x",)
    assert contexts("car", 1)[2] == "c[a]r"


def test_a_packed_lexicon_is_the_same_again() -> None:
    lexicon = Lexicon({"the": ("dh", "ax"), "hm": ()}, {"[h]": (), "t[h]": ("th",)})
    assert unpacked(packed(lexicon)) == lexicon
