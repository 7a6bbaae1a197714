"""Whisper's tokens: byte-level pairs as GPT-2 has them, and the special ones after them.

arXiv:2212.04356. The numbers of the special tokens follow from the size of the vocabulary alone, so
of the files only the text tokens are read.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer, models, pre_tokenizers

from alm_cli.errors import ModelError, UsageError
from alm_cli.text.languages import LANGUAGES, UNSPACED
from alm_cli.text.pairs import END, Pairs, find_pairs, unspelled

SpeechTask = Literal["transcribe", "translate"]

# Vocabularies of English-only models, and of those with 99 and 100 languages.
VOCABULARIES = (51_864, 51_865, 51_866)
_TIMESTAMPS = 1501  # 0 to 30 s
TIMESTAMP_S = 0.02
_ENGLISH_TEXT = 50_256  # text tokens of English-only models; the others have one more, empty
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"

# What is written of things that nobody says: brackets of remarks, speaker tags, music.
_SIGNS = '"#()*+/:;<=>@[\\]^_`{|}~「」『』'
_PAIRS = "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪"
# Of these even the first part of several is never said: they share their first two bytes.
_MUSIC = "♩♪♫♬♭♮♯"


class WhisperTokenizer:
    """Text to tokens and back, for a vocabulary of 51864 (English), 51865 or 51866 tokens.

    The attributes are the numbers of the special tokens; `language_tokens` and `languages`, which
    are codes, have the same order. ModelError: `pairs` are those of another vocabulary.
    """

    def __init__(self, vocabulary: int, pairs: Pairs) -> None:
        if vocabulary not in VOCABULARIES:
            raise ModelError(
                f"a vocabulary of {vocabulary} tokens is none of Whisper's",
                hint=f"those have {', '.join(map(str, VOCABULARIES))}",
            )
        self.vocabulary = vocabulary
        self.multilingual = vocabulary > VOCABULARIES[0]
        self.eot = _ENGLISH_TEXT + self.multilingual
        self.sot = self.eot + 1
        count = vocabulary - self.eot - _TIMESTAMPS - 8
        self.languages = tuple(LANGUAGES)[:count]
        self.language_tokens = tuple(range(self.sot + 1, self.sot + 1 + count))
        self.translate = self.sot + 1 + count
        self.transcribe = self.translate + 1
        self.sot_lm = self.translate + 2
        self.sot_prev = self.translate + 3
        self.no_speech = self.translate + 4
        self.no_timestamps = self.translate + 5
        self.timestamp_begin = self.translate + 6
        self._pairs = _encoder(pairs, self.eot)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; nothing in it is taken for a special token."""
        return list(self._pairs.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text without its timestamps; other special tokens are written out."""
        return self._text(token for token in tokens if token < self.timestamp_begin)

    def decode_with_timestamps(self, tokens: Iterable[int]) -> str:
        """The text with its timestamps written out: `<|1.08|>`."""
        return self._text(tokens)

    def timestamp(self, seconds: float) -> int:
        """The token of a time within the window, rounded to 20 ms."""
        return self.timestamp_begin + round(seconds / TIMESTAMP_S)

    def language_token(self, language: str) -> int:
        """The token of a language, given by its code. UsageError: the model does not know it."""
        if not self.multilingual or language not in self.languages:
            known = ", ".join(self.languages) if self.multilingual else "en"
            raise UsageError(f"the model does not know {language!r}", hint=f"it knows {known}")
        return self.sot + 1 + self.languages.index(language)

    def prompt(
        self, language: str | None, task: SpeechTask = "transcribe", *, timestamps: bool = True
    ) -> tuple[int, ...]:
        """What every text begins with; the language and the task only where the model has them."""
        start: tuple[int, ...] = (self.sot,)
        if self.multilingual:
            work = self.transcribe if task == "transcribe" else self.translate
            start += self.language_token(language or "en"), work
        return start if timestamps else (*start, self.no_timestamps)

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """The tokens of brackets, speaker tags and music, in rising order."""
        # A hyphen or an apostrophe begins a remark only at the beginning of a word.
        found = {self.encode(" -")[0], self.encode(" '")[0]}
        for sign in (*_SIGNS, *_PAIRS.split(), *_MUSIC):
            for tokens in (self.encode(sign), self.encode(f" {sign}")):
                if len(tokens) == 1 or sign in _MUSIC:
                    found.add(tokens[0])
        return tuple(sorted(found))

    def split_to_words(
        self, tokens: Sequence[int], language: str | None
    ) -> tuple[list[str], list[list[int]]]:
        """Words, each with the space before it, and the tokens of each.

        At spaces and around punctuation; where `language` is written without spaces, between
        characters. Special tokens stand alone.
        """
        characters, groups = self._whole_characters(tokens)
        if language in UNSPACED:
            return characters, groups
        words: list[str] = []
        parts: list[list[int]] = []
        for piece, group in zip(characters, groups, strict=True):
            begins = group[0] >= self.eot or piece.startswith(" ")
            if begins or not words or piece.strip() in string.punctuation:
                words.append(piece)
                parts.append(group)
            else:
                words[-1] += piece
                parts[-1] += group
        return words, parts

    def _whole_characters(self, tokens: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        """The shortest runs of tokens that decode to whole characters, as texts and tokens."""
        whole = self._text(tokens)
        texts: list[str] = []
        groups: list[list[int]] = []
        group: list[int] = []
        done = 0
        for token in tokens:
            group.append(token)
            text = self._text(group)
            place = text.find(_UNKNOWN)
            # A replacement in the whole text as well is not half a character but a broken one.
            if place < 0 or whole[done + place : done + place + 1] in ("", _UNKNOWN):
                texts.append(text)
                groups.append(group)
                group = []
                done += len(text)
        return texts, groups

    def _text(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self._bytes, tokens)).decode("utf-8", errors="replace")

    def _bytes(self, token: int) -> bytes:
        """What a token stands for; half a character has bytes, but no text."""
        if token >= self.eot:
            return self._special(token).encode()
        piece = self._pairs.id_to_token(token)
        return unspelled(piece or "")

    def _special(self, token: int) -> str:
        """How a special token is written."""
        if not token < self.vocabulary:
            raise ValueError(f"{token} is not one of {self.vocabulary} tokens")
        if token >= self.timestamp_begin:
            return f"<|{(token - self.timestamp_begin) * TIMESTAMP_S:.2f}|>"
        if token in self.language_tokens:
            return f"<|{self.languages[token - self.sot - 1]}|>"
        return {
            self.eot: "<|endoftext|>",
            self.sot: "<|startoftranscript|>",
            self.translate: "<|translate|>",
            self.transcribe: "<|transcribe|>",
            self.sot_lm: "<|startoflm|>",
            self.sot_prev: "<|startofprev|>",
            self.no_speech: "<|nospeech|>",
            self.no_timestamps: "<|notimestamps|>",
        }[token]


def _encoder(pairs: Pairs, eot: int) -> Tokenizer:
    """What cuts a text into its tokens. ModelError: they are not those below `eot`."""
    text = {piece: token for piece, token in pairs.tokens.items() if 0 <= token < eot}
    missing = _ENGLISH_TEXT - sum(token < _ENGLISH_TEXT for token in set(text.values()))
    if missing or pairs.tokens.get(END, eot) != eot:
        raise ModelError(
            f"the tokenizer does not have the {eot} text tokens of the model",
            hint="take the tokenizer that came with the weights",
        )
    encoder = Tokenizer(models.BPE(text, list(pairs.merges)))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return encoder


def load_tokenizer(source: str | Path, vocabulary: int) -> WhisperTokenizer:
    """The tokenizer beside the weights, which `source` is the folder or a file of.

    Lone weights, such as OpenAI's `.pt` files, take that of the installed package openai-whisper,
    or of any Whisper in the cache of the hub. ModelError: there is none.
    """
    folder = Path(source).expanduser()
    folder = folder if folder.is_dir() else folder.parent
    english = vocabulary == VOCABULARIES[0]
    rank_file = "gpt2.tiktoken" if english else "multilingual.tiktoken"
    for place in (folder, *_elsewhere(english)):
        pairs = find_pairs(place, rank_file)
        if pairs is not None:
            return WhisperTokenizer(vocabulary, pairs)
    name = "whisper-tiny.en" if english else "whisper-tiny"
    raise ModelError(
        f"{folder}: no tokenizer beside the weights",
        hint=f"put tokenizer.json of openai/{name} there, run `alm models pull {name}` once, or "
        "`pip install openai-whisper`",
    )


def _elsewhere(english: bool) -> Iterator[Path]:
    """Folders outside the model's that may have its tokenizer."""
    package = find_spec("whisper")
    for place in (package.submodule_search_locations or ()) if package else ():
        yield Path(place) / "assets"
    from huggingface_hub.constants import HF_HUB_CACHE

    for cached in sorted(Path(HF_HUB_CACHE).glob("models--openai--whisper-*/snapshots/*")):
        if cached.parents[1].name.endswith(".en") == english:
            yield cached
