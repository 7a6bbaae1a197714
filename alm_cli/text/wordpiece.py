"""Texts cut into pieces of words that a vocabulary knows, as BERT does (arXiv:1810.04805)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from alm_cli.errors import ModelError

_UNKNOWN = "[UNK]"
_LONGEST_WORD = 100


class WordPieces:
    """Text -> tokens of a cased vocabulary, piece -> number, as the hub's multilingual one is.

    ModelError: the numbers are not those from 0 on, or there is none for what is unknown.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        if (
            sorted(vocabulary.values()) != list(range(len(vocabulary)))
            or _UNKNOWN not in vocabulary
        ):
            raise ModelError(
                "the vocabulary is not one of word pieces",
                hint="take the tokenizer that came with the weights",
            )
        self.size = len(vocabulary)
        self._unknown = vocabulary[_UNKNOWN]
        pieces = models.WordPiece(
            dict(vocabulary), unk_token=_UNKNOWN, max_input_chars_per_word=_LONGEST_WORD
        )
        self._tokenizer = Tokenizer(pieces)
        self._tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without any that begin or end it."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def unknown(self, text: str) -> list[str]:
        """The words for which there are no pieces, in their order."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        pairs = zip(found.ids, found.offsets, strict=True)
        return [text[begin:end] for token, (begin, end) in pairs if token == self._unknown]


def load_wordpieces(source: Path, *repositories: str) -> WordPieces:
    """The tokenizer beside the weights, which `source` is the folder or a file of.

    Where there is none, that of one of the `repositories`, if it is in the cache of the hub.
    ModelError: there is none.
    """
    folder = source if source.is_dir() else source.parent
    for place in (folder, *_cached(repositories)):
        vocabulary = _vocabulary(place)
        if vocabulary is not None:
            return WordPieces(vocabulary)
    raise ModelError(
        f"{folder}: no tokenizer beside the weights",
        hint=f"put tokenizer.json or vocab.txt of {' or '.join(repositories)} there",
    )


def _cached(repositories: tuple[str, ...]) -> Iterator[Path]:
    """Folders in the cache of the hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for repository in repositories:
        name = f"models--{repository.replace('/', '--')}"
        yield from sorted(Path(HF_HUB_CACHE).glob(f"{name}/snapshots/*"))


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """What `vocab.txt` or `tokenizer.json` of a folder has."""
    plain, whole = folder / "vocab.txt", folder / "tokenizer.json"
    if plain.is_file():
        try:
            lines = plain.read_text(encoding="utf-8").split("\n")
        except ValueError as error:
            raise ModelError(f"{plain}: not UTF-8") from error
        return {line: number for number, line in enumerate(lines[:-1] if not lines[-1] else lines)}
    if not whole.is_file():
        return None
    try:
        read = json.loads(whole.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{whole}: not JSON") from error
    model = read.get("model") if isinstance(read, dict) else None
    found = model.get("vocab") if isinstance(model, dict) else None
    pieces = found if isinstance(found, dict) else {}
    if not pieces or not all(type(number) is int for number in pieces.values()):
        raise ModelError(f"{whole}: no vocabulary of word pieces")
    return pieces
