"""Entropy-coded codes: each takes a share of one long number, by a model that learns as it goes.

Everything is whole numbers, so that every machine and every version computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alm_cli.errors import FormatError
from alm_cli.files.chances import Chances, Contexts, Expected
from alm_cli.files.digits import digits_of
from alm_cli.files.priors import Prior
from alm_cli.files.range_coder import RangeDecoder, RangeEncoder

# So many codes, repeats included, may come of one byte: what is claimed stays near what is there.
MOST_PER_BYTE = 64


def squeeze(
    codes: NDArray[np.integer],
    vocabularies: Sequence[int],
    strides: Sequence[int],
    prior: Prior | None = None,
) -> bytes:
    """codes [S, K, F] -> bytes; the codes are within their vocabularies and repeat by strides."""
    digits, coder = digits_of(vocabularies), RangeEncoder()
    chances = _chances(vocabularies, prior)
    for stream in codes:
        chances.begin()
        values = np.stack([stream[d.book] >> d.shift & d.mask for d in digits], 1)
        for frame, row in enumerate(values):
            chances.next_frame()
            for place, value in enumerate(row.tolist()):
                if frame % strides[digits[place].book]:
                    continue
                ends = chances.ends(place)
                start = int(ends[value - 1]) if value else 0
                coder.put(start, int(ends[value]) - start, int(ends[-1]))
                chances.learn(place, value)
    return coder.finish().ljust(-(-codes.size // MOST_PER_BYTE), b"\0")


def unsqueeze(
    data: memoryview,
    vocabularies: Sequence[int],
    strides: Sequence[int],
    prior: Prior | None,
    out: NDArray[np.int32],
) -> None:
    """Bytes -> out [S, K, F], filled in place. FormatError: no codes are coded like this."""
    digits, coder = digits_of(vocabularies), RangeDecoder(data)
    chances = _chances(vocabularies, prior)
    for stream in out:
        chances.begin()
        # What is not due keeps its code, so slow codebooks repeat.
        row = [0] * len(vocabularies)
        for frame in range(out.shape[2]):
            chances.next_frame()
            for place, digit in enumerate(digits):
                if frame % strides[digit.book]:
                    continue
                ends = chances.ends(place)
                value = int(ends.searchsorted(coder.find(int(ends[-1])), "right"))
                start = int(ends[value - 1]) if value else 0
                coder.take(start, int(ends[value]) - start)
                chances.learn(place, value)
                row[digit.book] = (row[digit.book] & digit.above) | value << digit.shift
            stream[:, frame] = row
    if (out >= np.array(vocabularies)[:, None]).any():
        raise FormatError("a code outside the vocabulary of its codebook")


def _chances(vocabularies: Sequence[int], prior: Prior | None) -> Chances:
    sizes = [digit.size for digit in digits_of(vocabularies)]
    return Contexts(sizes) if prior is None else Expected(prior, len(sizes))
