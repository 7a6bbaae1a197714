"""Text as the numbers of its characters, as MMS and other VITS read it (arXiv:2305.13516)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from alm_cli.errors import InputError, ModelError
from alm_cli.text.espeak import espeak_phonemes

_PHONEMES = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_WORD = re.compile(r"\s*\S+")
# Spaces of all kinds and dashes part words, be they known to the model or not; the reference leaves
# out those that are not, and so joins words.
_GAP = re.compile(r"[\s\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d]+")
_FLAGS = ("add_blank", "normalize", "phonemize", "is_uroman")
# Characters of these kinds are said: letters, marks, numbers, and signs such as + or emoji.
_SAID = ("L", "M", "N", "Sm", "Sc", "So")
_SAID_TOO = "#%&@"
_MOST_TOLD = 8


@dataclass(frozen=True)
class Script:
    """`ids` of a text for a model, and for every word its own: from `begin` up to `end`."""

    ids: tuple[int, ...]
    words: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Characters:
    """What a model reads: `ids` of characters, with `blank` one more around each.

    `lower`: capitals and punctuation that it does not know are left out or made small.
    `phonemes`: it reads those instead of letters. `romanised`: Latin letters for all scripts.
    """

    ids: Mapping[str, int]
    blank: bool = True
    lower: bool = True
    phonemes: bool = False
    romanised: bool = False

    @classmethod
    def from_files(
        cls, vocabulary: Mapping[str, object], settings: Mapping[str, object], size: int
    ) -> Characters:
        """Read the published `vocab.json` and `tokenizer_config.json`, for a model of `size` ids.

        ModelError: they are not as the model needs them.
        """
        ids: dict[str, int] = {}
        for character, number in vocabulary.items():
            if not isinstance(number, int) or not 0 <= number < size:
                raise ModelError(
                    f"vocab.json: {character!r} is {number!r}, not a number below {size}",
                    hint="take the vocab.json that came with the weights",
                )
            ids[character] = number
        flags = [settings.get(key, key != "is_uroman") for key in _FLAGS]
        wrong = [key for key, flag in zip(_FLAGS, flags, strict=True) if type(flag) is not bool]
        if not ids or wrong:
            problem = f"{wrong[0]} is not true or false" if wrong else "no characters"
            raise ModelError(f"the tokenizer of the model: {problem}")
        return cls(
            ids=ids,
            blank=bool(flags[0]),
            lower=bool(flags[1]),
            phonemes=bool(flags[2]),
            romanised=bool(flags[3]),
        )

    def read(self, text: str) -> Script:
        """The ids of a text and its words. InputError: the model cannot say something in it."""
        said, spans = self._phonetic(text) if self.phonemes else self._written(text)
        kept = [(character, place) for character, place in said if character in self.ids]
        _refuse({character for character, _ in said if character not in self.ids})
        while kept and kept[-1][0].isspace():
            kept.pop()
        while kept and kept[0][0].isspace():
            kept.pop(0)
        if not kept:
            raise InputError(f"there is nothing to say in {text.strip()[:40]!r}")
        ids = [self.ids[character] for character, _ in kept]
        words = list(_words(kept, spans))
        if not self.blank:
            return Script(tuple(ids), tuple(words))
        # One after each, and one before all.
        around = [0, *(number for each in ids for number in (each, 0))]
        blanked = ((word, 2 * begin + 1, 2 * end) for word, begin, end in words)
        return Script(tuple(around), tuple(blanked))

    def _written(self, text: str) -> tuple[Said, Spans]:
        """The characters of a text, each with its place, and the words of the text."""
        if _PHONEMES.search(text):
            raise InputError("this model reads letters, not phonemes", hint="leave out [[...]]")
        if self.romanised and not text.isascii():
            raise InputError(
                "this model reads its language in Latin letters, as the program uroman writes them",
                hint="romanise the text first: `uroman < text`",
            )
        parted = {
            gap.start() for gap in _GAP.finditer(text) if not any(c in self.ids for c in gap[0])
        }
        said = [
            (new, place)
            for place, old in enumerate(text)
            for new in (" " if place in parted else self._normal(old))
        ]
        return said, [(word[0], *word.span()) for word in _WORD.finditer(text)]

    def _phonetic(self, text: str) -> tuple[Said, Spans]:
        """The phonemes of a text, each with its place, and the words of the text.

        No words, where the phonemes of some run together: `ʌvðə`.
        """
        said, words = "", list[str]()
        for place, piece in enumerate(_PHONEMES.split(text)):
            spoken = piece.strip()
            if spoken and not place % 2:
                spoken = espeak_phonemes("".join(map(self._small, spoken)))
            said += " " * piece[:1].isspace() + spoken + " " * piece[-1:].isspace()
            words += [f" {word}" for word in piece.split()]
        words[:1] = [word.lstrip() for word in words[:1]]
        found = [word.span() for word in _WORD.finditer(said)]
        known = zip(words, found, strict=True) if len(found) == len(words) else ()
        spans = [(word, *span) for word, span in known]
        return [(phoneme, place) for place, phoneme in enumerate(said)], spans

    def _normal(self, character: str) -> str:
        """A character as the model knows it, if it does."""
        small = self._small(character)
        alike = _ALIKE.get(small, small)
        return alike if self.lower and small not in self.ids and alike in self.ids else small

    def _small(self, character: str) -> str:
        known = character in self.ids or not self.lower
        return character if known else character.lower()


Said = list[tuple[str, int]]
Spans = list[tuple[str, int, int]]
# Another apostrophe, and the Romanian letter as the models write it.
_ALIKE = {"’": "'", "ț": "ţ"}


def _words(kept: Said, spans: Spans) -> Iterator[tuple[str, int, int]]:
    """Words of which something was kept, each with its range in `kept`.

    What stands alone and is not said, such as a dash, is written with the word before it.
    """
    found: list[tuple[str, int, int]] = []
    for word, begin, end in spans:
        inside = [
            index
            for index, (character, place) in enumerate(kept)
            if begin <= place < end and not character.isspace()
        ]
        if inside:
            found.append((word, inside[0], inside[-1] + 1))
        elif found:
            found[-1] = (found[-1][0] + word, *found[-1][1:])
    yield from found


def _refuse(unknown: set[str]) -> None:
    """InputError that names what would have been said; punctuation is only left out."""
    lost = sorted(c for c in unknown if c in _SAID_TOO or unicodedata.category(c).startswith(_SAID))
    if lost:
        more = ", ..." if len(lost) > _MOST_TOLD else ""
        raise InputError(
            f"the model cannot say {', '.join(map(repr, lost[:_MOST_TOLD]))}{more}",
            hint="write them as words, in the script of the model's language",
        )
