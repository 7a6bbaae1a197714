"""Tokens as lines of JSON: all that a token file says, a line for each recording."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError
from alm_cli.files.exports import tokens_like
from alm_cli.files.segment import LARGEST_STRIDE
from alm_cli.values import Origin, Tokens

_VERSION = 1
_DAMAGED = "the file is damaged, or made by another program"
# The fields of `Origin` in a line, by whether they must be there.
_NEEDED: Mapping[str, type] = {"codec": str, "rate": int, "hop": int, "vocabularies": list}
_OPTIONAL: Mapping[str, type] = {
    "frame_rate": float,
    "strides": list,
    "weights_sha256": str,
    "channels": int,
    "source_rate": int,
    "source_channels": int,
    "source_length": int,
    "source_sha256": str,
    "notes": dict,
}


def to_jsonl(tokens: Tokens) -> bytes:
    """One line; a slow codebook has each of its codes once, not once for each frame."""
    origin, side = tokens.origin, tokens.side
    strides = origin.strides or (1,) * tokens.codebooks
    line = {
        "alm_json": _VERSION,
        **{key: getattr(origin, key) for key in (*_NEEDED, *_OPTIONAL)},
        "notes": dict(origin.notes),
        "side": {name: side[name].tolist() for name in sorted(side)},
        "frames": tokens.frames,
        "codes": [
            [book[::stride].tolist() for book, stride in zip(stream, strides, strict=True)]
            for stream in tokens.codes
        ],
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def from_jsonl(data: bytes) -> Tokens:
    """One line as `to_jsonl` writes it; `codec`, `rate`, `hop`, `vocabularies`, `codes` suffice.

    FormatError: there are more lines, or something else stands in it.
    """
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        if data.strip().count(b"\n"):
            hint = "`split -l 1` makes a file of each line"
            raise FormatError("more than one line of JSON", hint) from None
        raise FormatError("not a line of JSON", _DAMAGED) from None
    if not isinstance(line, dict) or line.get("alm_json", _VERSION) != _VERSION:
        raise FormatError("JSON, but not tokens of version 1", _DAMAGED)
    origin, told = _origin(line)
    tokens = tokens_like(_codes(line, origin), origin)
    # What is not told follows from the codes.
    return replace(tokens, origin=replace(tokens.origin, **told), side=_side(line))


def _origin(line: Mapping[str, Any]) -> tuple[Origin, dict[str, Any]]:
    """What a line says of its codes: all of it, and the part that may not be there."""
    lacking = [key for key in (*_NEEDED, "codes") if key not in line]
    if lacking:
        raise FormatError(f"JSON without {', '.join(lacking)}", _DAMAGED)
    told = {key: _field(line[key], key, kind) for key, kind in _NEEDED.items()}
    more = {key: _field(line[key], key, kind) for key, kind in _OPTIONAL.items() if key in line}
    if told["hop"] < 1:
        raise FormatError(f"a hop of {told['hop']} samples", _DAMAGED)
    more.setdefault("frame_rate", told["rate"] / told["hop"])
    plain = {"weights_sha256": "", "channels": 1, "source_rate": 1, "source_channels": 1}
    origin = Origin(**{**plain, "source_length": 0, "source_sha256": "", **told, **more})
    return origin, more


def _field(value: object, key: str, kind: type) -> Any:
    """A field of its type. FormatError: it is of another."""
    right = type(value) is kind or (kind is float and type(value) is int)
    if isinstance(value, list):
        right = right and all(type(number) is int and number > 0 for number in value)
        return tuple(value) if right else _refuse(key, value)
    if isinstance(value, dict):
        right = right and all(type(text) is str for text in value.values())
    return value if right else _refuse(key, value)


def _refuse(key: str, value: object) -> None:
    raise FormatError(f"an impossible {key}: {str(value)[:80]!r}", _DAMAGED)


def _codes(line: Mapping[str, Any], origin: Origin) -> NDArray[np.int64]:
    """The codes of a line -> [S, K, F], those of slow codebooks repeated."""
    match line["codes"]:
        case [[_, *_] as first, *_] as streams if all(isinstance(s, list) for s in streams):
            pass
        case _:
            raise FormatError("codes that are not [streams][codebooks][codes]", _DAMAGED)
    count = len(origin.vocabularies)
    strides = origin.strides or (1,) * count
    if not len(first) == len(strides) == count or max(strides) > LARGEST_STRIDE:
        raise FormatError(f"{len(first)} codebooks with strides {strides[:8]}", _DAMAGED)
    books = [[_array(book, "iu") for book in stream] for stream in streams]
    frames = _field(line.get("frames", books[0][0].size * strides[0]), "frames", int)
    shapes = [(-(-frames // stride),) for stride in strides]
    dense = []
    for stream in books:
        if [book.shape for book in stream] != shapes:
            raise FormatError(f"codes that do not make {str(frames)[:20]} frames", _DAMAGED)
        pairs = zip(stream, strides, strict=True)
        dense.append(np.stack([book.repeat(stride)[:frames] for book, stride in pairs]))
    return np.stack(dense)


def _side(line: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    side = line.get("side", {})
    if not isinstance(side, dict):
        raise FormatError("side information that is not an object", _DAMAGED)
    return {name: _array(values, "iuf").astype(np.float32) for name, values in side.items()}


def _array(values: object, kinds: str) -> NDArray[Any]:
    """Lists of numbers -> an array. FormatError: other things, or rows of different lengths."""
    try:
        array = np.array(values)
    except ValueError:
        array = np.array(None)
    if array.size and array.dtype.kind not in kinds:
        raise FormatError("not numbers, or not in rows of one length", _DAMAGED)
    return array if array.size else array.astype(np.int64)
