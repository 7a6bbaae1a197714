"""Characters as numbers: those of `transformers`, words, and refusals that name what is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alm_cli.errors import InputError
from alm_cli.text.characters import Characters
from alm_cli.text.espeak import espeak_phonemes, has_espeak

LETTERS = "k'z56ypq01-ghrbxdatlwvefsijm ocu2nXţ"
NUMBERS = {letter: number for number, letter in enumerate(LETTERS)}
PHONEMES = {
    letter: number
    for number, letter in enumerate('_ ;:,.!?¡¿—…"«»“”abcdefhijklmnopstuvwzæðŋɐɑɔəɛɜɡɪɹʃʊʌˈˌːθᵻɾ')
}

espeak = pytest.mark.skipif(not has_espeak(), reason="espeak-ng is not installed")


def characters(**settings: Any) -> Characters:
    return Characters.from_files(NUMBERS, {"phonemize": False, **settings}, len(NUMBERS))


@pytest.mark.oracle
@pytest.mark.parametrize("settings", [{}, {"add_blank": False}], ids=["blanks", "no blanks"])
def test_ids_are_theirs(settings: dict[str, bool], tmp_path: Path) -> None:
    from transformers import VitsTokenizer

    (tmp_path / "vocab.json").write_text(json.dumps(NUMBERS), encoding="utf-8")
    theirs = VitsTokenizer(tmp_path / "vocab.json", phonemize=False, language="ron", **settings)
    ours = characters(**settings)
    for text in ("Hello", " isn't it, well-known? 56 ", "X x", "a", "(yes) ...no!", "aț"):
        assert list(ours.read(text).ids) == theirs(text)["input_ids"], text


def test_words_are_where_their_characters_are() -> None:
    script = characters().read("  Hi - ok, go ")
    assert [word for word, _, _ in script.words] == ["  Hi", " -", " ok,", " go"]
    for word, begin, end in script.words:
        said = [LETTERS[number] for number in script.ids[begin:end:2]]
        assert "".join(said) == word.strip().strip(",").lower()
    assert script.ids[0] == script.ids[-1] == 0


def test_what_is_left_out_is_written_with_the_word_before() -> None:
    script = characters().read("a ... b")
    assert [word for word, _, _ in script.words] == ["a ...", " b"]


def test_words_stay_apart() -> None:
    # The reference drops what it does not know, and says one word.
    assert characters().read("a\nb").ids == characters().read("a b").ids
    assert characters().read("a\N{EM DASH}b").ids == characters().read("a b").ids
    assert characters().read("don’t").ids == characters().read("don't").ids


@pytest.mark.parametrize("text", ["é", "a 7", "5 %", "\N{DOG FACE}", "a\u0301", "x + y", "語"])
def test_what_would_be_lost_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot say"):
        characters().read(text)


def test_phonemes_are_taken_as_they_are() -> None:
    ours = Characters.from_files(PHONEMES, {}, len(PHONEMES))
    script = ours.read("[[həlˈoʊ]], [[wˈɜːld]]!")
    said = "".join(list(PHONEMES)[number] for number in script.ids[1::2])
    assert said == "həlˈoʊ, wˈɜːld!"
    with pytest.raises(InputError, match="'q'"):
        ours.read("[[q]]")


def test_without_espeak_text_is_refused_and_phonemes_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    ours = Characters.from_files(PHONEMES, {}, len(PHONEMES))
    assert not has_espeak()
    ours.read("[[həlˈoʊ]]")
    with pytest.raises(InputError, match="espeak-ng") as caught:
        ours.read("hello")
    assert "[[" in str(caught.value)


@espeak
def test_espeak_gives_phonemes_and_leaves_punctuation() -> None:
    # As the package phonemizer has them, with the options of transformers.
    assert espeak_phonemes("hello - my dog is cute, isn't it? of the world!") == (
        "həlˈoʊ maɪ dˈɑːɡ ɪz kjˈuːt, ˈɪzənt ɪt? ʌvðə wˈɜːld!"
    )
    assert espeak_phonemes("(yes) 3.5 dollars...") == "(jˈɛs) θɹˈiː pɔɪnt fˈaɪv dˈɑːlɚz..."


@espeak
def test_words_of_spoken_text_are_known_where_none_run_together() -> None:
    ours = Characters.from_files(PHONEMES | {"ɚ": 70}, {}, 99)
    assert [word for word, _, _ in ours.read("Hello, [[wˈɜːld]]").words] == ["Hello,", " wˈɜːld"]
    assert ours.read("out of the world").words == ()
