"""English words -> phonemes: a list of exceptions, and letter-to-sound rules for all other words.

Phonemes are those of the CMU dictionary in small letters, without stress, plus `ax` for the weak
vowel. The rules are a decision list: of all contexts of a letter that are listed, the widest
decides which phonemes it stands for (Black, Lenzo, Pagel, "Issues in building general letter to
sound rules", 1998, align letters and phonemes in the same way). `recipes/lexicon.py` makes both.
"""

from __future__ import annotations

import lzma
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

VOWELS = (
    *("aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh"),
    "uw",
)
CONSONANTS = (
    *("b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh"),
    *("t", "th", "v", "w", "y", "z", "zh"),
)
PHONEMES = VOWELS + CONSONANTS

# Letters before and after the one that is read, from the narrowest context to the widest.
CONTEXTS = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4))

Phonemes = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """`words` are exceptions; `rules` say of a letter in context ("th[e]m") what it stands for."""

    words: Mapping[str, Phonemes]
    rules: Mapping[str, Phonemes]

    def phonemes(self, word: str) -> Phonemes:
        """Small letters a to z and apostrophes -> phonemes; empty if there is nothing to say."""
        known = self.words.get(word)
        return self.guess(word) if known is None else known

    def guess(self, word: str) -> Phonemes:
        """What the rules alone make of a word."""
        found: list[str] = []
        for place in range(len(word)):
            for context in reversed(contexts(word, place)):
                sounds = self.rules.get(context)
                if sounds is not None:
                    found += sounds
                    break
        return tuple(found)


def contexts(word: str, place: int) -> list[str]:
    """A letter within what surrounds it, from the narrowest context to the widest."""
    padded = f"####{word}####"
    middle = place + 4
    return [
        f"{padded[middle - before : middle]}[{padded[middle]}]"
        f"{padded[middle + 1 : middle + 1 + after]}"
        for before, after in CONTEXTS
    ]


@lru_cache(maxsize=1)
def english() -> Lexicon:
    """The lexicon that ships in the package."""
    data = resources.files("alm_cli").joinpath("assets/english/lexicon.xz").read_bytes()
    return unpacked(data)


def packed(lexicon: Lexicon) -> bytes:
    """A lexicon as a small file: lines of a key and its phonemes, words first."""
    tables = (lexicon.words, lexicon.rules)
    lines = ("\n".join(f"{k} {' '.join(v)}" for k, v in sorted(t.items())) for t in tables)
    return lzma.compress("\n\n".join(lines).encode(), preset=9)


def unpacked(data: bytes) -> Lexicon:
    """The inverse of `packed`."""
    return Lexicon(*map(_Table, lzma.decompress(data).decode().split("\n\n")))


class _Table(Mapping[str, Phonemes]):
    """Lines of a key and its phonemes, in order, of which a text needs few: no other is read."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")

    def __getitem__(self, key: str) -> Phonemes:
        place = bisect_left(self._lines, f"{key} ")
        if place == len(self._lines) or not self._lines[place].startswith(f"{key} "):
            raise KeyError(key)
        return tuple(self._lines[place].split()[1:])

    def __iter__(self) -> Iterator[str]:
        return (line.partition(" ")[0] for line in self._lines)

    def __len__(self) -> int:
        return len(self._lines)
