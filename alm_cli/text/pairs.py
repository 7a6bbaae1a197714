"""Byte-level pair encodings as files hold them: GPT-2's two files, tokenizer.json, rank files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alm_cli.errors import ModelError

END = "<|endoftext|>"


@dataclass(frozen=True)
class Pairs:
    """Tokens, spelled byte by byte, and the pairs that are joined, those first that come first."""

    tokens: Mapping[str, int]
    merges: Sequence[tuple[str, str]]


def find_pairs(folder: Path, rank_file: str) -> Pairs | None:
    """The encoding among the files of a folder, None without any; ModelError: it is unreadable.

    `rank_file` is the one meant if there are several.
    """
    if (folder / "tokenizer.json").is_file():
        return _read(_tokenizer_json, folder / "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _read(_two_files, folder / "vocab.json")
    ranks = sorted(folder.glob("*.tiktoken"))
    named = folder / rank_file
    if named in ranks or len(ranks) == 1:
        return _read(_ranks, named if named in ranks else ranks[0])
    return None


def spelled(raw: bytes) -> str:
    """Bytes as byte-level vocabularies spell them."""
    return raw.decode("latin-1").translate(_SPELLED)


def unspelled(piece: str) -> bytes:
    """The bytes of a piece of such a vocabulary."""
    return bytes(map(_BYTES.__getitem__, piece))


def _spelling() -> dict[int, str]:
    """Printable bytes as themselves, the others as characters from 256 on (GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    named = {byte: chr(byte) for byte in plain}
    return named | {byte: chr(256 + place) for place, byte in enumerate(others)}


_SPELLED = _spelling()
_BYTES = {character: byte for byte, character in _SPELLED.items()}


def _read(how: Callable[[Path], Pairs], file: Path) -> Pairs:
    """What `how` makes of a file; garbage fails in any way that its structure suggests."""
    try:
        return how(file)
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{file}: not a byte-level tokenizer", hint="take the one that came with the weights"
        ) from error


def _tokenizer_json(file: Path) -> Pairs:
    whole = json.loads(file.read_bytes())
    model = whole["model"]
    # Older files join the two parts of a merge by a space.
    merges = [_two(*(m.split(" ") if isinstance(m, str) else m)) for m in model["merges"]]
    added = {token["content"]: token["id"] for token in whole.get("added_tokens", ())}
    return Pairs(_numbered(model["vocab"] | added), merges)


def _two_files(file: Path) -> Pairs:
    lines = file.with_name("merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [_two(*line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return Pairs(_numbered(json.loads(file.read_bytes())), merges)


def _ranks(file: Path) -> Pairs:
    """Lines of a token in base64 and its number; what is joined first has the lowest number."""
    tokens: dict[str, int] = {}
    for line in file.read_bytes().splitlines():
        if line:
            token, rank = line.split()
            # _compat_empty_token: the last line of Whisper's file is a lone `=`, no bytes at all.
            tokens[spelled(base64.b64decode(token, validate=token != b"="))] = int(rank)
    merges = [
        (token[:cut], token[cut:])
        for token in sorted(tokens, key=tokens.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in tokens and token[cut:] in tokens
    ]
    return Pairs(tokens | {END: len(tokens)}, merges)


def _two(first: str, second: str) -> tuple[str, str]:
    return first, second


def _numbered(vocabulary: dict[str, Any]) -> dict[str, int]:
    """The vocabulary, if all its values are whole numbers."""
    if not all(type(number) is int for number in vocabulary.values()):
        raise ValueError("tokens have numbers")
    return vocabulary
