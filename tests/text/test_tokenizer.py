"""Whisper's tokens equal those of `openai-whisper`, for its three vocabularies."""

from __future__ import annotations

import json
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import ModelError, UsageError
from alm_cli.text.languages import LANGUAGES, UNSPACED, language_code
from alm_cli.text.pairs import Pairs, find_pairs, spelled, unspelled
from alm_cli.text.tokenizer import VOCABULARIES, WhisperTokenizer, load_tokenizer

pytestmark = pytest.mark.oracle

TEXTS = (
    " And so, my fellow Americans: ask not what your country can do for you!",
    " It's 12.5 % of $3,000 -- isn't it? (LAUGHTER) [♪♪♪] \n\tTabs  and   spaces ",
    " Ça va très bien, l'été; Grüße aus Köln, ĳsselmeer, naïve café",
    "日本語のテキストです。今日は天気がいいですね、東京タワー",
    "今天天氣很好,我们去吃饭吧。粵語：你食咗飯未呀",
    " ภาษาไทยไม่มีช่องว่าง ພາສາລາວ မြန်မာဘာသာ",
    " Привет, мир! مرحبا بالعالم שלום हिन्दी में",
    " emoji 👩‍👩‍👧‍👦🏳️‍🌈 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u200b\ufeff \x00\x7f <|en|> <|endoftext|>",
    "",
    " ",
    "a",
)


def ranks() -> Path:
    package = find_spec("whisper")
    assert package and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "assets"


def theirs(vocabulary: int, language: str | None = None, task: str | None = None) -> Any:
    from whisper.tokenizer import get_tokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file open
        return get_tokenizer(
            vocabulary > VOCABULARIES[0],
            num_languages=vocabulary - 51_765 - (vocabulary > VOCABULARIES[0]),
            language=language,
            task=task,
        )


@cache
def loaded(vocabulary: int) -> WhisperTokenizer:
    return load_tokenizer(ranks(), vocabulary)


@cache
def byte_pairs() -> Pairs:
    pairs = find_pairs(ranks(), "multilingual.tiktoken")
    assert pairs is not None
    return pairs


@pytest.fixture(scope="module", params=VOCABULARIES)
def ours(request: pytest.FixtureRequest) -> WhisperTokenizer:
    return loaded(request.param)


@pytest.fixture(scope="module")
def latest() -> WhisperTokenizer:
    return loaded(51_866)


def test_special_tokens_follow_from_the_size_of_the_vocabulary(ours: WhisperTokenizer) -> None:
    original = theirs(ours.vocabulary)
    for name in ("eot", "sot", "translate", "transcribe", "sot_lm", "sot_prev", "no_speech"):
        assert getattr(ours, name) == getattr(original, name), name
    assert ours.no_timestamps == original.no_timestamps
    assert ours.timestamp_begin == original.timestamp_begin == ours.timestamp(0)
    assert ours.timestamp(30.0) == ours.vocabulary - 1
    # The original's are in no order: its special tokens are a set.
    assert set(ours.language_tokens) == set(original.all_language_tokens)
    assert set(ours.languages) == set(original.all_language_codes)
    pairs = zip(ours.languages, ours.language_tokens, strict=True)
    assert all(original.to_language_token(code) == token for code, token in pairs)
    assert ours.vocabulary == original.encoding.n_vocab


def test_trap_the_suppressed_tokens_are_theirs(ours: WhisperTokenizer) -> None:
    assert ours.non_speech_tokens == theirs(ours.vocabulary).non_speech_tokens
    assert len(ours.non_speech_tokens) == (82 if ours.multilingual else 84)


def test_trap_the_last_text_token_of_multilingual_models_is_empty() -> None:
    """A lone `=` in the file of ranks; without it all special tokens move by one."""
    assert (ranks() / "multilingual.tiktoken").read_bytes().split()[-2:] == [b"=", b"50256"]
    for vocabulary in (51_865, 51_866):
        tokenizer = loaded(vocabulary)
        assert tokenizer.eot == 50_257
        assert tokenizer.decode([50_256]) == ""


def test_languages_are_in_the_order_of_their_tokens() -> None:
    from whisper.tokenizer import LANGUAGES as THEIRS
    from whisper.tokenizer import TO_LANGUAGE_CODE

    assert list(LANGUAGES.items()) == list(THEIRS.items())
    for name, code in TO_LANGUAGE_CODE.items():
        assert language_code(name) == language_code(f" {name.upper()} ") == code
    assert all(language_code(code) == code for code in LANGUAGES)
    assert set(LANGUAGES) > UNSPACED
    with pytest.raises(UsageError, match="unknown language 'klingon'"):
        language_code("klingon")


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_their_tokens_and_come_back(ours: WhisperTokenizer, text: str) -> None:
    original = theirs(ours.vocabulary)
    tokens = original.encode(text, disallowed_special=())
    assert ours.encode(text) == tokens
    assert ours.decode(tokens) == text


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_becomes_their_tokens(latest: WhisperTokenizer, text: str) -> None:
    tokens = theirs(51_866).encode(text, disallowed_special=())
    assert latest.encode(text) == tokens
    assert latest.decode(tokens) == text


@settings(max_examples=150, deadline=None)
@given(tokens=st.lists(st.integers(0, 51_865) | st.integers(0, 255), max_size=12))
def test_any_tokens_become_their_text(latest: WhisperTokenizer, tokens: list[int]) -> None:
    original = theirs(51_866)
    assert latest.decode(tokens) == original.decode(tokens)
    assert latest.decode_with_timestamps(tokens) == original.decode_with_timestamps(tokens)


@pytest.mark.parametrize("language", ["en", "de", "ru", None, *sorted(UNSPACED)])
def test_words_are_theirs(ours: WhisperTokenizer, language: str | None) -> None:
    if not ours.multilingual and language not in ("en", None):
        return
    original = theirs(ours.vocabulary, language if language in ours.languages else None)
    for text in TEXTS:
        tokens = [*ours.encode(text), ours.timestamp(1.08), *ours.encode(text[3:]), ours.eot]
        words, parts = ours.split_to_words(tokens, original.language)
        assert (words, parts) == original.split_to_word_tokens(tokens)
        assert [token for part in parts for token in part] == tokens


@settings(max_examples=150, deadline=None)
@given(tokens=st.lists(st.integers(0, 51_865) | st.integers(0, 255), max_size=12))
@pytest.mark.parametrize("language", ["en", "ja"])
def test_words_of_broken_characters_are_theirs_where_they_have_any(
    latest: WhisperTokenizer, language: str, tokens: list[int]
) -> None:
    try:
        expected = theirs(51_866, language).split_to_word_tokens(tokens)
    except IndexError:  # half characters at the very end
        latest.split_to_words(tokens, language)
        return
    assert latest.split_to_words(tokens, language) == expected


def test_prompts_name_language_and_task_where_the_model_has_them(ours: WhisperTokenizer) -> None:
    for language, task in (("en", "transcribe"), ("su", "translate"), (None, "transcribe")):
        original = theirs(ours.vocabulary, language, task)
        assert ours.prompt(language, task) == original.sot_sequence  # type: ignore[arg-type]
        silent = ours.prompt(language, task, timestamps=False)  # type: ignore[arg-type]
        assert silent == original.sot_sequence_including_notimestamps


def test_languages_that_a_model_lacks_are_refused() -> None:
    assert loaded(51_866).language_token("yue") == 50_358
    with pytest.raises(UsageError, match="'yue'"):
        loaded(51_865).language_token("yue")
    with pytest.raises(UsageError, match="'de'"):
        loaded(51_864).language_token("de")


def test_numbers_beyond_the_vocabulary_are_no_tokens(latest: WhisperTokenizer) -> None:
    with pytest.raises(ValueError, match="51866 is not one of 51866 tokens"):
        latest.decode_with_timestamps([51_866])


@pytest.mark.parametrize("kind", ["new json", "old json", "two files"])
def test_the_files_of_the_hub_give_the_same_tokens(kind: str, tmp_path: Path) -> None:
    pairs = byte_pairs()
    merges: list[Any] = [list(pair) for pair in pairs.merges]
    if kind == "two files":
        (tmp_path / "vocab.json").write_text(json.dumps(pairs.tokens))
        lines = ["#version: 0.2", *map(" ".join, merges)]
        (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
    else:
        # Timestamps are added tokens there, and may be missing; none of them is read.
        added = [{"id": 50_364, "content": "<|0.00|>"}, {"id": 50_257, "content": "<|endoftext|>"}]
        joined = merges if kind == "new json" else [" ".join(pair) for pair in merges]
        model = {"type": "BPE", "vocab": dict(pairs.tokens), "merges": joined}
        whole = {"model": model, "added_tokens": added}
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    (tmp_path / "model.safetensors").touch()
    tokenizer = load_tokenizer(tmp_path / "model.safetensors", 51_865)
    original = theirs(51_865)
    for text in TEXTS:
        assert tokenizer.encode(text) == original.encode(text, disallowed_special=())


def test_lone_weights_take_the_tokenizer_of_the_package(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path / "tiny.pt", 51_865).encode(" a") == theirs(51_865).encode(" a")


def test_without_any_tokenizer_it_says_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alm_cli.text.tokenizer.find_spec", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="no tokenizer beside the weights") as caught:
        load_tokenizer(tmp_path, 51_864)
    assert "whisper-tiny.en" in str(caught.value)
    cached = tmp_path / "hub" / "models--openai--whisper-base.en" / "snapshots" / "0"
    cached.mkdir(parents=True)
    (cached / "gpt2.tiktoken").write_bytes((ranks() / "gpt2.tiktoken").read_bytes())
    assert load_tokenizer(tmp_path, 51_864).eot == 50_256


def test_the_tokenizer_of_other_weights_is_refused(tmp_path: Path) -> None:
    for vocabulary, file in ((51_864, "multilingual"), (51_865, "gpt2")):
        folder = tmp_path / file
        folder.mkdir()
        (folder / f"{file}.tiktoken").write_bytes((ranks() / f"{file}.tiktoken").read_bytes())
        with pytest.raises(ModelError, match="text tokens of the model"):
            load_tokenizer(folder, vocabulary)
    with pytest.raises(ModelError, match="51867 tokens is none of Whisper's"):
        load_tokenizer(ranks(), 51_867)


HOSTILE = {
    "tokenizer.json": [b"", b"{", b"[]", b'{"model": 3}', b'{"model": {"vocab": [], "merges": 1}}']
    + [b'{"model": {"vocab": {"a": "b"}, "merges": []}}', b"\xff\xfe", b"[" * 100_000]
    + [b'{"model": {"vocab": {}, "merges": ["a b c"]}}'],
    "broken.tiktoken": [b"a", b"!!! 1", b"YQ== x", b"YQ== 1 2"],
}


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, all in HOSTILE.items() for c in all])
def test_broken_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load_tokenizer(tmp_path, 51_865)


def test_every_byte_is_spelled_by_a_character_of_its_own() -> None:
    whole = bytes(range(256))
    assert unspelled(spelled(whole)) == whole and len(set(spelled(whole))) == 256
    assert spelled(b" a") == "\u0120a"
