"""What speakers of English without rules of their own can say, and how long it may take them."""

from __future__ import annotations

import unicodedata

from alm_cli.errors import InputError

# Nobody speaks slower than seven characters a second; a figure is a word.
_SECONDS, _SECONDS_A_CHARACTER, _CHARACTERS_A_FIGURE = 3.0, 0.144, 8
_SHOWN = 20


def spaced(text: str) -> str:
    """A text in one line."""
    return " ".join(text.split())


def check_english(text: str, name: str) -> None:
    """InputError: empty, phonemes, or letters that English is not written with; `name` is whose."""
    if not text.strip():
        raise InputError("there is nothing to say")
    if "[[" in text:
        raise InputError(f"{name} reads no phonemes", hint="write the words")
    foreign = [c for c in text if c.isalpha() and "LATIN" not in unicodedata.name(c, "LATIN")]
    if foreign:
        raise InputError(
            f"{name} speaks English and cannot say {''.join(foreign[:_SHOWN])!r}",
            hint="write it in Latin letters",
        )


def longest_s(text: str) -> float:
    """How many seconds a text may take, so that a model that does not find the end stops."""
    figures = sum(map(str.isdigit, text))
    return _SECONDS + (len(text) + (_CHARACTERS_A_FIGURE - 1) * figures) * _SECONDS_A_CHARACTER


def wordless(what: str) -> InputError:
    """What to say of a recording whose words are not known to a model that reads them."""
    return InputError(
        f"{what} comes without its words, which the model has to read",
        hint="write them into a file of the same name: clip.txt for clip.wav",
    )
