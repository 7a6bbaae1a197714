"""Tokens for other programs, and back: `.npy` arrays and units as text (`jsonl` has the third).

An array is [S, K, F] int32 (latents [S, D, F] float32), without pickle. Units are a line of text
for each stream: frames parted by spaces, the codebooks of a frame by commas. Merged units of one
codebook stand once for each run, `12 85 3`, then a tab and the frames of each run, `1 2 1`. Both
hold codes alone: to read them takes the codec whose they are.
"""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO
from math import prod

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError, InputError
from alm_cli.files.npy import npy_parts
from alm_cli.values import Latents, Origin, Tokens

_DAMAGED = "the file is damaged, or not of codes"
_NUMBER = rb"[0-9]{1,8}"
_UNITS = re.compile(rb"(?:%b(?:[ ,]%b)*(?:\t%b(?: %b)*)?)?" % ((_NUMBER,) * 4))
# Merged units can stand for more frames than they have bytes, but not for any number.
_MOST_FRAMES = 1 << 24


def to_npy(value: Tokens | Latents) -> bytes:
    """The codes or features as a `.npy` file."""
    file = BytesIO()
    array = value.codes if isinstance(value, Tokens) else value.values
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def from_npy(data: bytes, like: Origin) -> Tokens:
    """A `.npy` file of codes [F], [K, F] or [S, K, F] -> tokens of the codec of `like`.

    FormatError: it is damaged, or these are not codes of that codec.
    """
    shape, turned, kind, body = npy_parts(data)
    if kind.kind not in "iu" or not 1 <= len(shape) <= 3:
        raise FormatError(f"an array of {kind} {list(shape)}, not of codes", _DAMAGED)
    if prod(shape) * kind.itemsize != len(body):
        raise FormatError(f"{len(body)} bytes of an array of {kind} {list(shape)}", _DAMAGED)
    array = np.frombuffer(body, kind).reshape(shape, order="F" if turned else "C")
    return tokens_like(array.reshape((1,) * (3 - array.ndim) + array.shape), like)


def to_units(tokens: Tokens, *, merged: bool = False) -> bytes:
    """A line of text for each stream. InputError: `merged` is for one codebook."""
    lines = []
    for stream in tokens.codes:
        if not merged:
            frames = (",".join(map(str, codes)) for codes in stream.T.tolist())
            lines.append(f"{' '.join(frames)}\n")
            continue
        if tokens.codebooks != 1:
            told = f"{tokens.codebooks} codebooks, where only those of one can be merged into runs"
            raise InputError(told, hint="--codebooks 1 keeps the first")
        first = np.flatnonzero(np.diff(stream[0], prepend=-1))
        runs = np.diff(first, append=tokens.frames)
        lines.append(f"{' '.join(map(str, stream[0, first]))}\t{' '.join(map(str, runs))}\n")
    return "".join(lines).encode()


def from_units(data: bytes, like: Origin) -> Tokens:
    """Text as `to_units` writes it -> tokens of the codec of `like`.

    FormatError: it is something else, or these are not codes of that codec.
    """
    streams = [_stream(line) for line in data.removesuffix(b"\n").split(b"\n")]
    if len({stream.shape for stream in streams}) > 1:
        raise FormatError("lines of different lengths", _DAMAGED)
    return tokens_like(np.stack(streams), like)


def tokens_like(codes: NDArray[np.integer], like: Origin) -> Tokens:
    """codes [S, K, F] as tokens of the codec of `like`, of a recording at the codec's own rate.

    FormatError: that codec has no such codebooks.
    """
    streams, codebooks, frames = codes.shape
    vocabularies = like.vocabularies[:codebooks]
    if not 1 <= codebooks <= len(like.vocabularies):
        told = f"{codebooks} codebooks, where {like.codec} has {len(like.vocabularies)}"
        raise FormatError(told, _DAMAGED)
    if (codes < 0).any() or (codes >= np.array(vocabularies)[:, None]).any():
        raise FormatError(f"codes outside the vocabularies of {like.codec}", _DAMAGED)
    origin = replace(
        like,
        vocabularies=vocabularies,
        strides=like.strides[:codebooks],
        source_rate=like.rate,
        source_channels=streams * like.channels,
        source_length=frames * like.hop,
        source_sha256="",
        segment=0,
        final=True,
        notes={},
    )
    return Tokens(np.ascontiguousarray(codes, np.int32), origin)


def _stream(line: bytes) -> NDArray[np.int64]:
    """A line of units -> codes [K, F]."""
    if not _UNITS.fullmatch(line):
        raise FormatError("not a line of units", _DAMAGED)
    units, _, runs = line.partition(b"\t")
    frames = [frame.split(b",") for frame in units.split()] or [[]]
    if len({len(frame) for frame in frames}) > 1:
        raise FormatError("frames of different numbers of codebooks", _DAMAGED)
    codes = np.array(frames, np.int64).T if units else np.zeros((1, 0), np.int64)
    if not runs:
        return codes
    lengths = np.array(runs.split(), np.int64)
    if len(lengths) != codes.shape[1] or not 0 < lengths.sum() <= _MOST_FRAMES:
        raise FormatError("units and lengths of runs that do not go together", _DAMAGED)
    return np.repeat(codes, lengths, axis=1)
