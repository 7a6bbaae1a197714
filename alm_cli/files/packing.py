"""Codes as bits: each in the width of its codebook, least significant bit first, without gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError, InputError

# Codes handled at once: their temporaries stay within a processor's second-level cache.
_BLOCK = 1 << 15
# Eight codes of `width` bits fill exactly `width` bytes, so every eighth code has the same place.
_LANES = 8
# Bytes that the last, incomplete group of eight may touch beyond the packed ones.
_SLACK = 32


def width_of(vocabulary: int) -> int:
    """Bits of one code: enough for vocabulary - 1, at least one."""
    return max(1, (vocabulary - 1).bit_length())


def packed_bytes(
    vocabularies: Sequence[int], frames: int, strides: Sequence[int] = (), streams: int = 1
) -> int:
    """Bytes that hold the codes of these codebooks, of which each stands for `strides` frames."""
    steps = strides or (1,) * len(vocabularies)
    pairs = zip(vocabularies, steps, strict=True)
    bits = sum(width_of(vocabulary) * -(-frames // stride) for vocabulary, stride in pairs)
    return (streams * bits + 7) // 8


def pack(
    codes: NDArray[np.integer], vocabularies: Sequence[int], strides: Sequence[int] = ()
) -> bytes:
    """codes [R, F], a vocabulary and a stride per row -> packed bytes.

    InputError: a code is out of range, or another than the one that its stride says it repeats.
    """
    size = packed_bytes(vocabularies, codes.shape[1], strides)
    packed = np.zeros(size + _SLACK, np.uint8)
    bit = 0
    _check_repeats(codes, strides)
    for piece, vocabulary in _pieces(codes, vocabularies, strides):
        if piece.min() < 0 or piece.max() >= vocabulary:
            raise InputError(f"codes outside 0..{vocabulary - 1}, the vocabulary of their codebook")
        _put(packed[bit >> 3 :], bit & 7, width_of(vocabulary), piece.ravel())
        bit += piece.size * width_of(vocabulary)
    return packed[:size].tobytes()


def unpack(
    packed: memoryview,
    vocabularies: Sequence[int],
    out: NDArray[np.int32],
    strides: Sequence[int] = (),
) -> None:
    """Packed bytes -> out [R, F], filled in place. FormatError: a code is out of range."""
    source = np.frombuffer(packed, np.uint8)
    bit = 0
    for piece, vocabulary in _pieces(out, vocabularies, strides):
        width = width_of(vocabulary)
        codes = _take(source[bit >> 3 :], bit & 7, width, piece.size)
        if vocabulary < 1 << width and codes.max() >= vocabulary:
            raise FormatError(f"a code outside 0..{vocabulary - 1}, the vocabulary of its codebook")
        piece[...] = codes.reshape(piece.shape)
        bit += piece.size * width
    if bit & 7 and source[-1] >> (bit & 7):
        raise FormatError("set bits after the last code")
    for repeated, once in _repeats(out, strides):
        repeated[...] = once


def _pieces(
    rows: NDArray[np.integer], vocabularies: Sequence[int], strides: Sequence[int]
) -> Iterator[tuple[NDArray[np.integer], int]]:
    """rows [R, F] -> views of at most _BLOCK codes in packing order, each of one vocabulary."""
    if not rows.shape[1]:
        return
    first = 0
    steps = strides or (1,) * len(vocabularies)
    for (vocabulary, stride), run in groupby(zip(vocabularies, steps, strict=True)):
        last = first + sum(1 for _ in run)
        once = rows[first:last, ::stride]
        height = max(1, _BLOCK // once.shape[1])
        for row in range(0, last - first, height):
            for frame in range(0, once.shape[1], _BLOCK):
                yield once[row : row + height, frame : frame + _BLOCK], vocabulary
        first = last


def _repeats(
    rows: NDArray[np.integer], strides: Sequence[int]
) -> Iterator[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    """rows [R, F] -> views of codes that repeat others, and of those others."""
    for row, stride in zip(rows, strides, strict=False):
        for offset in range(1, stride):
            repeated = row[offset::stride]
            yield repeated, row[::stride][: len(repeated)]


def _check_repeats(codes: NDArray[np.integer], strides: Sequence[int]) -> None:
    for repeated, once in _repeats(codes, strides):
        if (repeated != once).any():
            raise InputError("codes that differ where their codebook has one for several frames")


def _put(packed: NDArray[np.uint8], bit: int, width: int, codes: NDArray[np.integer]) -> None:
    """Set codes [N] into zeroed bytes, from bit 0..7 of the first one onwards."""
    groups = -(-codes.size // _LANES)
    lanes = np.zeros((groups, _LANES), np.uint32)
    lanes.reshape(-1)[: codes.size] = codes
    for lane in range(_LANES):
        start, shift = divmod(bit + lane * width, 8)
        shifted = lanes[:, lane] << np.uint32(shift)
        for byte in range((shift + width + 7) // 8):
            column = packed[start + byte :: width][:groups]
            column |= (shifted >> np.uint32(8 * byte)).astype(np.uint8)


def _take(packed: NDArray[np.uint8], bit: int, width: int, count: int) -> NDArray[np.uint32]:
    """The codes [count] that stand from bit 0..7 of the first byte onwards."""
    groups = -(-count // _LANES)
    used = (bit + count * width + 7) // 8
    window = np.zeros(groups * width + _SLACK, np.uint8)
    window[:used] = packed[:used]
    codes = np.empty((groups, _LANES), np.uint32)
    for lane in range(_LANES):
        start, shift = divmod(bit + lane * width, 8)
        # Four bytes hold any code: a width of at most 24 and a shift of at most 7 make 31 bits.
        words = np.ndarray((groups,), "<u4", window, offset=start, strides=(width,))
        np.right_shift(words, np.uint32(shift), out=codes[:, lane])
    codes &= np.uint32((1 << width) - 1)
    return codes.reshape(-1)[:count]
