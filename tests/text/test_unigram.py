"""SentencePiece models as the library `sentencepiece` reads them, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from alm_cli.errors import ModelError
from alm_cli.text.unigram import read_tokenizer
from tests.fixtures.golden.make_pocket_kyutai import TEXTS, TOKENIZER


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_tokens_are_those_of_sentencepiece() -> None:
    tokenizer = read_tokenizer(TOKENIZER)
    wanted = json.loads(TEXTS.read_text(encoding="utf-8"))["tokens"]
    assert len(wanted) > 5
    for text, tokens in wanted.items():
        assert encoded(tokenizer, text) == tokens, text


def test_odd_texts_are_as_in_sentencepiece() -> None:
    library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    tokenizer, theirs = read_tokenizer(TOKENIZER), library.SentencePieceProcessor(str(TOKENIZER))
    odd = ("", " ", "ﬁne ½ Ⅷ", "e\u0301t\u00e9", "<s> <unk> </s>", "漢字", "a\tb\nc", "\u200bzero")
    for text in (*odd, " ".join(odd), "x" * 500):
        assert encoded(tokenizer, text) == theirs.encode(text), text
        assert (
            tokenizer.decode(encoded(tokenizer, text)).strip()
            == theirs.decode(theirs.encode(text)).replace(" \u2047 ", "").strip()
        ), text


def test_what_is_written_is_never_a_control_token() -> None:
    assert not {1, 2} & set(encoded(read_tokenizer(TOKENIZER), "<s>hello</s>"))


def test_the_file_of_the_library_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0)], 0)).save(str(file))
    assert read_tokenizer(file).get_vocab_size() == 2


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_what_is_no_tokenizer_is_refused(name: str, tmp_path: Path) -> None:
    data, file = TOKENIZER.read_bytes(), tmp_path / name
    bpe = b"\x12\x02\x18\x02"
    for content in (b"", b"{}", b"\x00" * 9, data[:1000], data[:-7], bpe + data, b"\xff" * 99):
        file.write_bytes(content)
        if name == "tokenizer.model" and content == data[:-7]:
            continue
        with pytest.raises(ModelError, match=name):
            read_tokenizer(file)
    file.unlink()
    with pytest.raises(ModelError):
        read_tokenizer(file)
