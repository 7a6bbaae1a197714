"""Text as it is read aloud in English: only words, and the punctuation that a voice follows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from alm_cli.errors import InputError
from alm_cli.text.markup import pieces
from alm_cli.text.quantities import read_quantities
from alm_cli.text.shorthand import read_addresses, read_capitals, read_numbered, read_shorthand

Warn = Callable[[str], None]

# Same sign, plainly written; what nobody sees or hears goes.
_PLAIN = str.maketrans({
    **dict.fromkeys("‘’‚‛′ʼ`´", "'"), **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("—―⸺", " -- "), **dict.fromkeys("‐‑‒﹣－", "-"), "…": "...",
    **dict.fromkeys("\u00ad\u200b\u200c\u2060\ufeff\u200e\u200f", ""),
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2009\u200a\u202f\u3000", " "),
    "ﬁ": "fi", "ﬂ": "fl", "ﬀ": "ff", "ﬃ": "ffi", "ﬄ": "ffl",
})  # fmt: skip
_SIGNS = {
    "&": "and", "@": "at", "%": "percent", "+": "plus", "=": "equals", "°": "degrees",
    "§": "section", "¶": "paragraph", "©": "copyright", "®": "registered", "™": "trademark",
    "×": "times", "÷": "divided by", "±": "plus or minus", "≠": "is not equal to",
    "≈": "is about", "≤": "is at most", "≥": "is at least", "√": "the square root of",
    "∞": "infinity", "→": "to", "⇒": "implies", "←": "from", "−": "minus", "·": "times",
    "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "¢": "cents", "₹": "rupees",
    "№": "number", "²": "squared", "³": "cubed", "Ω": "ohm", "µ": "micro", "†": "", "‡": "",
    "∑": "the sum of", "∫": "the integral of", "∂": "partial", "∈": "in", "∴": "therefore",
}  # fmt: skip
# A list or a frame, not a sound.
_SILENT = frozenset('•‣◦▪●○■□–—|_*~^\\<>{}"()[]#/')
_FOLDED = str.maketrans({
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "ħ": "h",
})  # fmt: skip
# Emoji are put together of these: a selector, a joiner, a frame, shades of skin.
_JOINTS = re.compile("[\ufe0e\ufe0f\u200d\u20e3\U0001f3fb-\U0001f3ff]")
_FLAG = re.compile("([\U0001f1e6-\U0001f1ff])([\U0001f1e6-\U0001f1ff])")
_FIRST_FLAG = 0x1F1E6
_MOST_TOLD = 5


def read_aloud(text: str, warn: Warn | None = None) -> str:
    """A paragraph as it is read aloud; phonemes in `[[...]]` stay as they are.

    `warn` is told of what can be read in two ways, and of signs that are left out. InputError
    names characters that are not read in English.
    """
    read = [
        f" [[{piece}]] " if phonemes else _read(piece, warn or _ignore)
        for piece, phonemes in pieces(text)
    ]
    return _tidy("".join(read))


def _ignore(_: str) -> None:
    return None


def _read(text: str, warn: Warn) -> str:
    # Space at the ends keeps words apart from phonemes beside them.
    start, end = " " * text[:1].isspace(), " " * text[-1:].isspace()
    # A narrow space within a number groups its digits.
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    text = read_addresses(re.sub(r"\s+", " ", text).strip())
    text = _emoji(text, warn)
    text = re.sub(r"(?<!\w)#(?=[A-Za-z])", "hashtag ", text)
    text = re.sub(r"\b([CF])#", r"\1 sharp", text)
    text = read_quantities(read_numbered(text), warn)
    text = read_capitals(read_shorthand(text))
    return start + _latin(_signs(text, warn)) + end


def _emoji(text: str, warn: Warn) -> str:
    """Emoji by their names, between commas."""
    text = _FLAG.sub(lambda found: f", flag {_flag(found[1])} {_flag(found[2])}, ", text)
    text = _JOINTS.sub("", text)
    return "".join(_named(character, warn) for character in text)


def _flag(character: str) -> str:
    return chr(ord("A") + ord(character) - _FIRST_FLAG)


def _named(character: str, warn: Warn) -> str:
    """A picture by its name; other characters as they are."""
    if character in _SIGNS or character in _SILENT:
        return character
    kind = unicodedata.category(character)
    if kind not in ("So", "Cn", "Co", "Sk") or character.isascii():
        return character
    name = unicodedata.name(character, "")
    if name:
        return f", {name.lower().replace('-', ' ')}, "
    warn(f"left out: U+{ord(character):04X}, a character without a name here")
    return " "


def _signs(text: str, warn: Warn) -> str:
    """Signs in words; those that only arrange a text are left out, and some of these told."""
    text = re.sub(r"\s--+\s?|--+|\s[-–]\s|(?<=\w)–(?=\w)", ", ", text)
    text = re.sub(r"[-=]>", " to ", text)
    text = re.sub(r"(?<=\w)\s*<\s*(?=\w)", " is less than ", text)
    text = re.sub(r"(?<=\w)\s*>\s*(?=\w)", " is greater than ", text)
    text = re.sub(r"\s*[(\[{]\s*", ", ", text)
    text = re.sub(r"\s*[)\]}]\s*(?=[.,;:!?])", "", text)
    text = re.sub(r"\s*[)\]}]\s*", ", ", text)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z]{2,4}(?![\w']))", " dot ", text)
    text = re.sub(r"(?<=[A-Za-z])/(?=[A-Za-z])", " slash ", text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, f" {word} ")
    dropped = sorted(set(text) & set("*~^\\<>#|"))
    if dropped:
        warn(f"left out: {', '.join(map(_described, dropped))}")
    return "".join(" " if character in _SILENT else character for character in text)


def _latin(text: str) -> str:
    """Letters without their accents. InputError: others are left."""
    folded = unicodedata.normalize("NFD", text.translate(_FOLDED))
    text = "".join(character for character in folded if not unicodedata.combining(character))
    text = re.sub("(?<![\u0370-\u03ff])[\u0391-\u03c9](?![\u0370-\u03ff])", _greek, text)
    strange = list(dict.fromkeys(c for c in text if not c.isascii() or not c.isprintable()))
    if strange:
        named = ", ".join(map(_described, strange[:_MOST_TOLD]))
        more = f" and {len(strange) - _MOST_TOLD} more" if len(strange) > _MOST_TOLD else ""
        raise InputError(
            f"cannot be read aloud in English: {named}{more}",
            hint="write it in Latin letters, or take a model for its language",
        )
    return text


def _greek(found: re.Match[str]) -> str:
    """A single letter, as in formulas, by its name."""
    return f" {unicodedata.name(found[0]).rpartition(' ')[2].lower()} "


def _described(character: str) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    return f"{character} ({name})" if character.isprintable() else name


def _tidy(text: str) -> str:
    """One space between words, none before punctuation, and one mark in a place."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\.{2,}", "…", text)
    text = re.sub(r"\s+(?=[.,;:!?…])", "", text)
    text = re.sub(r"[,;:…]*([!?])[!?.,…]*", r"\1", text)
    text = re.sub(r",[,;:]*(?=[.;:…])|(?<=[.;:!?…]),+", "", text)
    text = re.sub(r",[,\s]*,", ",", text)
    text = re.sub(r"(?<=[\w\]…])([,;:.!?…])(?=[A-Za-z\[])", r"\1 ", text)
    text = re.sub(r"(?<=[A-Za-z])'(?![A-Za-z])|(?<![A-Za-z])'", "", text)
    text = re.sub(r"(?<![\w\]])-|-(?![\w\[])", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"^[\s.,;:!?…-]+", "", text).rstrip(" ,;:").replace("…", "...")
