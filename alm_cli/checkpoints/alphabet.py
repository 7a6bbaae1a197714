"""What the symbols of published CTC checkpoints write: vocab.json and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alm_cli.checkpoints.family import SettingsError

_VOCABULARY = "vocab.json"
_ADDED = "added_tokens.json"
_SPECIAL = "special_tokens_map.json"
_TOKENIZER = "tokenizer_config.json"
_SAMPLES = "preprocessor_config.json"
ALPHABET_FILES = (_VOCABULARY, _ADDED, _SPECIAL, _TOKENIZER, _SAMPLES)

# What the tokenizer of these models takes where its files are silent.
_NAMES = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "word_delimiter_token": "|",
    "replace_word_delimiter_char": " ",
}
_SILENT = ("pad_token", "bos_token", "eos_token", "unk_token")
_MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """What each symbol writes, nothing for special ones; a space ends a word.

    `standardise`: recordings are brought to zero mean and unit variance before the model.
    """

    symbols: tuple[str, ...]
    blank: int
    standardise: bool


def read_alphabet(raw: Mapping[str, object]) -> Alphabet | None:
    """The alphabet of a model `...ForCTC`, None where it has no head or lacks vocab.json.

    The settings are those of config.json and, by their names, of the files beside it.
    SettingsError: symbols that the head does not have, or that are none.
    """
    known = raw.get("architectures")
    ctc = isinstance(known, list) and any(str(name).endswith("ForCTC") for name in known)
    if not ctc or _VOCABULARY not in raw:
        return None
    names = _names(raw)
    size = raw.get("vocab_size", 32)
    if type(size) is not int or not 1 <= size <= _MOST:
        raise _unsuitable("config.json", f"vocab_size is {size!r}"[:60], "vocab_size")
    numbers = _numbers(raw, size)
    # The tokenizer's word is the last; the number in config.json is only what the loss used.
    blank = numbers.get(names["pad_token"], raw.get("pad_token_id"))
    if type(blank) is not int or not 0 <= blank < size:
        raise _unsuitable(_VOCABULARY, f"no symbol {names['pad_token']!r}, the blank", "vocab.json")
    symbols = [""] * size
    for text, number in numbers.items():
        symbols[number] = _written(text, names, _table(raw, _TOKENIZER))
    # Fine-tuned models may have a head that is wider than their vocabulary.
    symbols[blank] = ""
    heard = _table(raw, _SAMPLES).get("do_normalize", True)
    return Alphabet(symbols=tuple(symbols), blank=blank, standardise=bool(heard))


def _written(text: str, names: Mapping[str, str], tokenizer: Mapping[str, object]) -> str:
    if text == names["word_delimiter_token"]:
        return names["replace_word_delimiter_char"]
    if text in [names[key] for key in _SILENT]:
        return ""
    return text.lower() if tokenizer.get("do_lower_case") is True else text


def _names(raw: Mapping[str, object]) -> dict[str, str]:
    """The special tokens; what tokenizer_config.json says goes before special_tokens_map.json."""
    names = dict(_NAMES)
    for file in (_SPECIAL, _TOKENIZER):
        table = _table(raw, file)
        for key in names:
            value = table.get(key)
            value = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(value, str):
                names[key] = value
    return names


def _numbers(raw: Mapping[str, object], size: int) -> dict[str, int]:
    """The rows of the head: text -> number. Added tokens beyond the head have none."""
    added = {text: number for text, number in _table(raw, _ADDED).items() if number in range(size)}
    numbers: dict[str, int] = {}
    for text, number in {**added, **_table(raw, _VOCABULARY)}.items():
        if type(number) is not int:
            raise _unsuitable(_VOCABULARY, f"{text[:20]!r} has no number", _VOCABULARY)
        if not 0 <= number < size:
            problem = f"{text[:20]!r} is number {number} of a head with {size} symbols"
            raise _unsuitable(_VOCABULARY, problem, _VOCABULARY)
        numbers[text] = number
    return numbers


def _table(raw: Mapping[str, object], file: str) -> Mapping[str, object]:
    table = raw.get(file)
    return table if isinstance(table, Mapping) else {}


def _unsuitable(file: str, problem: str, key: str) -> SettingsError:
    hint = "take the files that came with the weights"
    return SettingsError(f"{file}: {problem}", hint=hint, keys=frozenset({key}))
