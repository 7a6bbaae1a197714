"""The tokens of Llama 3, from the tokenizer.json beside the weights."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from alm_cli.errors import ModelError

_FILE = "tokenizer.json"
_BEGIN, _END = "<|begin_of_text|>", "<|end_of_text|>"


class LlamaTokenizer:
    """Text -> tokens below `vocabulary`; nothing in a text is taken for a special token.

    ModelError: it is the tokenizer of another model.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        begin, end = tokenizer.token_to_id(_BEGIN), tokenizer.token_to_id(_END)
        count = tokenizer.get_vocab_size(with_added_tokens=True)
        if begin is None or end is None or count > vocabulary:
            raise ModelError(
                f"{_FILE} has {count} tokens, which are not the {vocabulary} of a Llama 3",
                hint="take the tokenizer that came with the weights",
            )
        # What a user writes as `<|end_of_text|>` is text.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.begin, self.end = int(begin), int(end)
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """The tokens of a text between those for its beginning and its end."""
        inner = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self.begin, *inner, self.end]


def load_llama_tokenizer(source: str | Path, vocabulary: int) -> LlamaTokenizer:
    """The tokenizer beside the weights, which `source` is the folder or a file of.

    ModelError: there is none, or it is unreadable.
    """
    folder = Path(source).expanduser()
    file = (folder if folder.is_dir() else folder.parent) / _FILE
    if not file.is_file():
        raise ModelError(
            f"{file.parent}: no tokenizer beside the weights",
            hint=f"put {_FILE} of sesame/csm-1b or of a Llama 3 there",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    # The library knows no narrower kind.
    except Exception as error:
        raise ModelError(
            f"{file}: not a tokenizer", hint="take the one that came with the weights"
        ) from error
    return LlamaTokenizer(tokenizer, vocabulary)
