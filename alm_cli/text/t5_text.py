"""How T5 is given text: pieces of SentencePiece, and one that ends it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from alm_cli.errors import InputError, ModelError
from alm_cli.text.unigram import read_tokenizer

T5_FILES = ("tokenizer.json", "spiece.model")
# What T5 was trained on at a time; longer texts it has not seen.
_MOST = 512
# The numbers of what ends a text and of what has no piece, in every vocabulary of T5.
_END, _UNKNOWN = 1, 2


@dataclass(frozen=True, eq=False)
class T5Text:
    """Text -> the numbers of its pieces, each below `vocabulary`."""

    tokenizer: Tokenizer
    vocabulary: int

    def ids(self, text: str) -> list[int]:
        """With the end. InputError: nothing is in it, or too much."""
        found = self._encoded(text) if text.strip() else []
        if not found:
            raise InputError("the prompt is empty", hint="say what the music shall be like")
        if len(found) >= _MOST:
            raise InputError(
                f"a prompt of {len(found)} tokens, where {_MOST - 1} are read", hint="say less"
            )
        if max(found) >= self.vocabulary:
            raise ModelError("the tokenizer is not that of the model", hint="fetch both again")
        return [*found, _END]

    def unknown(self, text: str) -> list[str]:
        """What of a text has no piece, in order, each once."""
        found = self.tokenizer.encode(text, add_special_tokens=False)
        odd = [
            text[begin:end].strip()
            for token, (begin, end) in zip(found.ids, found.offsets, strict=True)
            if token == _UNKNOWN
        ]
        return list(dict.fromkeys(filter(None, odd)))

    def _encoded(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def load_t5_text(folder: Path, vocabulary: int) -> T5Text:
    """The tokenizer that lies beside the weights. ModelError: there is none."""
    for name in T5_FILES:
        if (folder / name).is_file():
            return T5Text(read_tokenizer(folder / name), vocabulary)
    raise ModelError(
        f"{folder}: no tokenizer", hint=f"{' or '.join(T5_FILES)} must lie beside the weights"
    )
