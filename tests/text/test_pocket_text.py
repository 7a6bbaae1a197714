"""Texts as the package `pocket-tts` prepares them for its models, language by language."""

from __future__ import annotations

import json

import pytest

from alm_cli.errors import InputError
from alm_cli.text.pocket_text import MOST_TOKENS, manner_of, pieces, unknown
from alm_cli.text.unigram import read_tokenizer
from tests.fixtures.golden.make_pocket_kyutai import LANGUAGES, SAID, TEXTS, TOKENIZER


@pytest.mark.parametrize("language", LANGUAGES)
def test_pieces_are_those_of_the_package(language: str) -> None:
    wanted = json.loads(TEXTS.read_text(encoding="utf-8"))[language]
    manner, tokenizer = manner_of(language), read_tokenizer(TOKENIZER)
    assert (manner.temperature, manner.threshold) == (wanted["temperature"], wanted["threshold"])
    several = 0
    for text in SAID:
        found = [[list(piece.tokens), piece.after] for piece in pieces(text, tokenizer, manner)]
        assert found == wanted[text], text
        several += len(found) > 1
    assert several


def test_pieces_are_not_long() -> None:
    found = list(pieces(SAID[6], read_tokenizer(TOKENIZER), manner_of("")))
    assert len(found) > 2
    assert all(len(piece.tokens) <= MOST_TOKENS + 5 for piece in found)


def test_trap_a_short_text_is_given_more_frames_at_its_end() -> None:
    tokenizer = read_tokenizer(TOKENIZER)
    (short,) = pieces("one two three four", tokenizer, manner_of(""))
    (longer,) = pieces("one two three four five", tokenizer, manner_of(""))
    assert (short.after, longer.after) == (4, 2)


def test_trap_the_budget_is_that_of_the_tokens() -> None:
    (piece,) = pieces("Hello there", read_tokenizer(TOKENIZER), manner_of(""))
    assert piece.frames(12.5) == -(-(len(piece.tokens) + 6) * 25 // 6)


def test_manners_are_told_by_names() -> None:
    assert manner_of("pocket-tts-french-24l") == manner_of("french_24l") != manner_of("pocket-tts")
    assert manner_of("pocket-tts-2m") == manner_of("english_2m_refl_2026-10")
    assert manner_of("english_2026-01").pads and not manner_of("english_2026-10").pads
    assert manner_of("german").voice == "juergen"


def test_nothing_to_say_is_an_error() -> None:
    tokenizer = read_tokenizer(TOKENIZER)
    for text in ("", "  \n", "“”"):
        with pytest.raises(InputError):
            list(pieces(text, tokenizer, manner_of("french")))


def test_what_has_no_token_is_named() -> None:
    tokenizer = read_tokenizer(TOKENIZER)
    assert unknown("Hello there", tokenizer, manner_of(""), 10_000) == []
    assert unknown("Hello 漢字 there", tokenizer, manner_of(""), 10_000) == ["漢字"]
    assert unknown("Hello", tokenizer, manner_of(""), 3)
