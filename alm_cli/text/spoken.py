"""Numbers and signs as they are read aloud in English."""

from __future__ import annotations

import re

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_GROUPS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SIGNS = {
    "%": "percent",
    "&": "and",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "°": "degrees",
    "§": "section",
}
_MONEY = {"$": "dollars", "£": "pounds", "€": "euros", "¥": "yen"}

_NUMBER = re.compile(
    r"(?P<money>[$£€¥])?"
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d+)"
    r"(?:\.(?P<part>\d+))?"
    r"(?P<end>st|nd|rd|th|'?s)?(?![a-z])",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"\b(\d{1,2}):([0-5]\d)\b")


def spoken(text: str) -> str:
    """What is read aloud for the numbers and signs of a text; everything else stays as it is."""
    text = _CLOCK.sub(lambda found: f"{found[1]} {_minutes(found[2])}", text)
    text = _NUMBER.sub(_read, text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, f" {word} ")
    return text


def cardinal(number: int) -> str:
    """A whole number in words; from a quadrillion on, its digits."""
    if number >= 10**15:
        return _digits(str(number))
    for size, name in (*_GROUPS, (100, "hundred")):
        if number >= size:
            head, rest = divmod(number, size)
            return f"{cardinal(head)} {name}" + (f" {cardinal(rest)}" if rest else "")
    if number < 20:
        return _ONES[number]
    tens, rest = divmod(number, 10)
    return _TENS[tens - 2] + (f" {_ONES[rest]}" if rest else "")


def _read(found: re.Match[str]) -> str:
    digits = found["whole"].replace(",", "")
    end = (found["end"] or "").lower().replace("'", "")
    grouped = "," in found["whole"]
    if found["part"]:
        said = f"{cardinal(int(digits))} point {_digits(found['part'])}"
    elif end and end != "s":
        said = _ordinal(int(digits))
    elif len(digits) > 1 and digits[0] == "0":
        said = _digits(digits)
    elif len(digits) == 4 and not grouped and not found["money"] and "1100" <= digits < "2100":
        said = _year(int(digits))
    else:
        said = cardinal(int(digits))
    if end == "s":
        said = f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"
    money = _MONEY.get(found["money"] or "")
    return f" {said} {money or ''} "


def _digits(text: str) -> str:
    return " ".join(_ONES[int(digit)] for digit in text)


def _minutes(text: str) -> str:
    return "" if text == "00" else f"oh {text[1]}" if text[0] == "0" else text


def _ordinal(number: int) -> str:
    head, _, last = cardinal(number).rpartition(" ")
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{head} {last}".strip()


def _year(number: int) -> str:
    """Nineteen oh five, two thousand six, twenty twelve."""
    century, rest = divmod(number, 100)
    if number % 1000 < 10:
        return cardinal(number)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"
