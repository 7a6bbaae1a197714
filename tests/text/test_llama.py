"""The tokenizer of Llama 3: what it adds, and what a text cannot bring."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from alm_cli.errors import ModelError
from alm_cli.text.llama import load_llama_tokenizer

BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"


def written(folder: Path, *names: str) -> Path:
    """Bytes and one pair, and special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)} | {"hi": 256}
    made = Tokenizer(models.BPE(vocabulary, [("h", "i")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(name, special=True) for name in names])
    made.enable_truncation(4)
    made.enable_padding(length=9)
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_a_text_stands_between_its_beginning_and_its_end(tmp_path: Path) -> None:
    tokenizer = load_llama_tokenizer(written(tmp_path, BEGIN, END), 259)
    tokens = tokenizer.encode("hi hi hi hi hi")
    assert (tokenizer.begin, tokenizer.end) == (257, 258)
    assert tokens[0] == 257 and tokens[-1] == 258 and tokens.count(256) == 5
    assert len(tokens) == 11, "neither cut off nor filled up"
    assert tokenizer.encode("") == [257, 258]


def test_special_tokens_in_a_text_are_text(tmp_path: Path) -> None:
    tokenizer = load_llama_tokenizer(written(tmp_path, BEGIN, END) / "weights.bin", 259)
    assert len(tokenizer.encode(END)) == 2 + len(END)


@pytest.mark.parametrize("names", [(), (BEGIN,), (BEGIN, END, "<|more|>")])
def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="Llama 3"):
        load_llama_tokenizer(written(tmp_path, *names), 259)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff\x00", b'{"model": null}'])
def test_no_tokenizer_and_garbage_are_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="tokenizer"):
        load_llama_tokenizer(tmp_path, 259)
