"""A line of English as the sounds that are spoken: phonemes of words, and pauses where it halts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from alm_cli.errors import InputError
from alm_cli.text.phonemes import PHONEMES, Lexicon, english

# What begins a sentence, halts within it, and ends it.
PAUSES = ("^", ",", ".", "?", "!")
SYMBOLS = PAUSES + PHONEMES

_PIECE = re.compile(
    r"\[\[(?P<ipa>[^\[\]]*)\]\]|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*)|(?P<other>\S)"
)
_HALTS = {",": ",", ";": ",", ":": ",", "–": ",", "—": ",", "(": ",", ")": ",", "…": ","}
_IPA = {
    **{"tʃ": "ch", "t͡ʃ": "ch", "ʧ": "ch", "dʒ": "jh", "d͡ʒ": "jh", "ʤ": "jh", "eɪ": "ey"},
    **{"aɪ": "ay", "ɔɪ": "oy", "aʊ": "aw", "oʊ": "ow", "əʊ": "ow", "ɜː": "er", "ɝː": "er"},
    **{"ɑː": "aa", "ɔː": "ao", "iː": "iy", "uː": "uw", "ɚ": "er", "ɝ": "er", "ɜ": "er"},
    **{"ɑ": "aa", "ɒ": "aa", "ɔ": "ao", "æ": "ae", "a": "ae", "ʌ": "ah", "ə": "ax", "ɐ": "ah"},
    **{"ɛ": "eh", "e": "eh", "ɪ": "ih", "i": "iy", "ʊ": "uh", "u": "uw", "o": "ow"},
    **{"ʃ": "sh", "ʒ": "zh", "θ": "th", "ð": "dh", "ŋ": "ng", "ɹ": "r", "ɡ": "g", "ɾ": "d"},
    **{"h": "hh", "j": "y", "ɫ": "l", "ʔ": "t"},
    **{letter: letter for letter in "bdfgklmnprstvwz"},
}
_SILENT = frozenset("ˈˌːˑ.ʰʼ̩̯̃ '")  # stress, length and the like, which the sounds do not tell


@dataclass(frozen=True)
class Sounds:
    """`symbols` one after another; `owners` is the word of each, -1 for a pause.

    `words` are as written.
    """

    symbols: tuple[str, ...]
    owners: tuple[int, ...]
    words: tuple[str, ...]


def sounds(text: str, lexicon: Lexicon | None = None) -> Sounds:
    """The sounds of a text whose numbers and signs are written out as words.

    InputError: there is nothing to say, or something that has no English sound.
    """
    lexicon = lexicon or english()
    symbols: list[str] = []
    owners: list[int] = []
    words: list[str] = []
    for found in _PIECE.finditer(text):
        written = found[0]
        if found["other"]:
            _halt(symbols, owners, written)
            continue
        said = ipa(found["ipa"]) if found["ipa"] is not None else _word(written, lexicon)
        if said:
            if not symbols or symbols[-1] in ".?!":
                symbols.append("^")
                owners.append(-1)
            symbols += said
            owners += [len(words)] * len(said)
            words.append(written)
    if not words:
        raise InputError(f"{text[:40]!r}: there is nothing to say")
    if symbols[-1] not in PAUSES or symbols[-1] == ",":
        _halt(symbols, owners, ".")
    return Sounds(tuple(symbols), tuple(owners), tuple(words))


def ipa(text: str) -> tuple[str, ...]:
    """Phonemes of the International Phonetic Alphabet, the nearest English ones."""
    found: list[str] = []
    place = 0
    while place < len(text):
        length = next((n for n in (3, 2, 1) if text[place : place + n] in _IPA), 0)
        if length:
            found.append(_IPA[text[place : place + length]])
        elif text[place] not in _SILENT:
            raise InputError(
                f"[[{text[:40]}]]: {text[place]!r} is no English sound",
                hint="phonemes are of the International Phonetic Alphabet, such as [[həˈloʊ]]",
            )
        place += length or 1
    return tuple(found)


def _word(written: str, lexicon: Lexicon) -> tuple[str, ...]:
    word = written.lower().replace("’", "'")
    if not re.fullmatch(r"[a-z']+", word):
        raise InputError(f"{written[:40]!r} cannot be read: only the letters a to z can")
    return lexicon.phonemes(word)


def _halt(symbols: list[str], owners: list[int], written: str) -> None:
    """A pause, once something was said; a stronger one takes the place of a weaker."""
    kind = written if written in ".?!" else _HALTS.get(written)
    if kind is None or not symbols:
        return
    if symbols[-1] == ",":
        symbols[-1] = kind
    elif symbols[-1] not in PAUSES:
        symbols.append(kind)
        owners.append(-1)
