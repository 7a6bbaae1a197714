"""Word pieces against the tokenizer of `transformers`, and files that have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from alm_cli.errors import ModelError
from alm_cli.text.wordpiece import WordPieces, load_wordpieces

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Hello", "hello", "world", "##s", "##ing", "a"),
    *("say", "É", "é", "##t", "##é", "!", ",", ".", "'", "-", "中", "文", "♪", "1", "##2", "##a"),
)
VOCABULARY = {word: place for place, word in enumerate(WORDS)}
TEXTS = (
    *("Hello worlds!", "hello, saying.", "Été", "中文a", "a\u0000b\tsay", "12", "♪ say ♪", "zebra"),
    *("it's", "say-say", "", "  ", "É" * 150, "say\N{ZERO WIDTH SPACE}ing"),
)


@pytest.fixture
def pieces(tmp_path: Path) -> WordPieces:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return load_wordpieces(tmp_path)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_tokens_are_those_of_transformers(pieces: WordPieces, tmp_path: Path) -> None:
    from transformers import BertTokenizer

    theirs = BertTokenizer(vocab=VOCABULARY, do_lower_case=False)
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert pieces.encode(text) == expected, text
    assert pieces.size == len(WORDS)
    assert tmp_path.exists()


def test_both_files_say_the_same(pieces: WordPieces, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    whole = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    whole.save(str(other / "tokenizer.json"))
    same = load_wordpieces(other / "tokenizer.json")
    assert [same.encode(text) for text in TEXTS] == [pieces.encode(text) for text in TEXTS]


def test_words_without_pieces_are_named(pieces: WordPieces) -> None:
    assert pieces.unknown("hello zebra, say quagga") == ["zebra", "quagga"]
    assert pieces.unknown("hello worlds!") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"model": 3}', b'{"model": {"vocab": {"a": "b"}}}', b'{"model": {}}'],
)
def test_files_without_a_vocabulary_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="tokenizer.json"):
        load_wordpieces(tmp_path)


@pytest.mark.parametrize("vocabulary", [{"a": 0}, {"[UNK]": 1, "a": 2}, {"[UNK]": 0, "a": 0}])
def test_vocabularies_of_another_kind_are_refused(
    vocabulary: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(ModelError, match="not one of word pieces"):
        load_wordpieces(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="not UTF-8"):
        load_wordpieces(tmp_path)
