"""Reading the tokenizers of models that publish `tokenizer.json`, or SentencePiece's own file.

A SentencePiece model (arXiv:1808.06226) is a small table of pieces with their scores, as a
protocol buffer: read here, and run by the library `tokenizers`, which has the same search
(unigram, arXiv:1804.10959) and the same normalisation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from alm_cli.errors import ModelError

NAMES = ("tokenizer.json", "tokenizer.model")
# Of single characters a unigram finds the same as the model of characters, which has no scores.
_UNIGRAM, _CHARACTERS = 1, 4
# Kinds of pieces: those that no text contains, and those that are never cut.
_CONTROL, _USER, _UNUSED = 3, 4, 5
_MOST_BYTES = 1 << 26

Value = int | bytes


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in `tokenizer.json` or `tokenizer.model`. ModelError: it is not one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{path}: too large for a tokenizer")
        if path.suffix == ".json":
            return Tokenizer.from_str(path.read_text(encoding="utf-8"))
        return _unigram(_read(path.read_bytes()))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except ModelError:
        raise
    # The library fails in ways of its own, and garbage in any.
    except Exception as error:
        raise ModelError(f"{path}: not a tokenizer ({error})", hint="fetch it again") from error


@dataclass
class _Model:
    """What a file says."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)  # with their kinds
    unknown: int = 0
    bytes_too: bool = False
    charsmap: bytes = b""
    prefix: bool = True
    single_spaces: bool = True


def _read(data: bytes) -> _Model:
    """The fields that matter. ValueError: they are damaged, or of a kind that is not read here."""
    model = _Model()
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            score = piece.get(2, b"\0\0\0\0")
            assert isinstance(score, bytes)
            text = bytes(piece[1]).decode("utf-8")
            model.pieces.append((text, struct.unpack("<f", score)[0], int(piece.get(3, 1))))
        elif number == 2 and isinstance(value, bytes):
            trained = dict(_fields(value))
            if trained.get(3, _UNIGRAM) not in (_UNIGRAM, _CHARACTERS) or trained.get(24, 0):
                raise ValueError("only unigram models with spaces before words are read")
            model.unknown = int(trained.get(40, 0))
            model.bytes_too = bool(trained.get(35, 0))
        elif number == 3 and isinstance(value, bytes):
            rules = dict(_fields(value))
            model.charsmap = bytes(rules.get(2, b""))
            model.prefix = bool(rules.get(3, 1))
            model.single_spaces = bool(rules.get(4, 1))
    return model


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """The numbers and values of a message: whole numbers, or the bytes of anything else."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(data, place)
            yield key >> 3, number
            continue
        if kind == 2:
            size, place = _varint(data, place)
        else:
            size = {1: 8, 5: 4}[kind]
        if place + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A whole number, and where what follows it begins."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number without an end")


def _unigram(model: _Model) -> Tokenizer:
    """The same as a tokenizer of the library."""
    # No text has a control character as its piece, so what must not be found gets such a name.
    pieces = [
        (f"\0{place}" if kind in (_CONTROL, _UNUSED) else text, score)
        for place, (text, score, kind) in enumerate(model.pieces)
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, model.unknown, model.bytes_too))
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.single_spaces:
        steps.append(normalizers.Strip())
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if model.prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    metaspace = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = (
        decoders.Sequence([decoders.ByteFallback(), metaspace]) if model.bytes_too else metaspace
    )
    users = [text for text, _, kind in model.pieces if kind == _USER]
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in users])
    return tokenizer
