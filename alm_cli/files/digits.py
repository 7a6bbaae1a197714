"""Codes of large codebooks in digits, so that no table of chances is long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_BITS = 12
# The values of all digits of a frame, for each of which the model keeps some scores.
LARGEST_ALPHABET = 1 << 18


@dataclass(frozen=True, slots=True)
class Digit:
    """What is coded at once: bits of a codebook's codes from `shift` up, of `size` values."""

    book: int
    shift: int
    mask: int
    size: int

    @property
    def above(self) -> int:
        """A mask of the digits before this one."""
        return ~((self.mask + 1 << self.shift) - 1)


def digits_of(vocabularies: Sequence[int]) -> tuple[Digit, ...]:
    """The digits of a frame in their order: one a codebook, or some, the highest first."""
    found = []
    for book, vocabulary in enumerate(vocabularies):
        bits = (vocabulary - 1).bit_length()
        count = max(1, -(-bits // _BITS))
        width = -(-bits // count)
        for place in reversed(range(count)):
            top = (vocabulary - 1 >> place * width) + 1
            mask = (1 << width) - 1
            found.append(Digit(book, place * width, mask, min(top, mask + 1)))
    return tuple(found)


def few_enough(vocabularies: Sequence[int]) -> bool:
    """Whether the tables of these codebooks are as small as the format allows."""
    return sum(digit.size for digit in digits_of(vocabularies)) <= LARGEST_ALPHABET
