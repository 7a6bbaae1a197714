"""T5's text: pieces of SentencePiece, from either of the two files."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_cli.errors import InputError, ModelError
from alm_cli.text.t5_text import T5Text, load_t5_text
from tests.golden import GOLDEN
from tests.lm.musicgens import tokenizer


@pytest.fixture
def text(tmp_path: Path) -> T5Text:
    tokenizer(tmp_path)
    return load_t5_text(tmp_path, 64)


def test_a_text_ends(text: T5Text) -> None:
    ids = text.ids("piano drums")
    assert ids == [4, 5, 1]
    # Spaces at the ends are no words.
    assert text.ids("piano")[-1] == 1


def test_what_has_no_piece_is_known_as_such(text: T5Text) -> None:
    assert text.unknown("piano") == []
    assert text.unknown("ab ☃ c") == ["☃"]


def test_nothing_and_too_much_are_refused(text: T5Text) -> None:
    for wrong in ("", " ", "x" * 600):
        with pytest.raises(InputError):
            text.ids(wrong)


def test_a_tokenizer_of_another_model_is_refused(text: T5Text) -> None:
    with pytest.raises(ModelError):
        T5Text(text.tokenizer, 10).ids("zebra")


def test_without_a_file_there_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_t5_text(tmp_path, 64)
    (tmp_path / "spiece.model").write_bytes(b"garbage")
    with pytest.raises(ModelError):
        load_t5_text(tmp_path, 64)


def test_the_other_file_is_read_too(tmp_path: Path) -> None:
    # The model of pocket-tts is of the same kind.
    (tmp_path / "spiece.model").write_bytes((GOLDEN / "pocket_tokenizer.model").read_bytes())
    text = load_t5_text(tmp_path, 100_000)
    assert text.ids("hello")[-1] == 1
