"""Dates, times, money, measures and all other numbers of a text as they are read in English."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from alm_cli.text.spoken import cardinal, spoken

Warn = Callable[[str], None]
Found = re.Match[str]

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_MONTH = {name[:3]: name for name in MONTHS} | {"Sept": "September"} | {m: m for m in MONTHS}
_MONTHS = "|".join(sorted(_MONTH, key=len, reverse=True))

# Sign or code -> one of it, more of it, one hundredth, hundredths.
_MONEY: Mapping[str, tuple[str, str, str, str]] = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopek", "kopeks"),
    "₺": ("lira", "liras", "kurus", "kurus"),
    "₿": ("bitcoin", "bitcoins", "hundredth", "hundredths"),
    "¢": ("cent", "cents", "hundredth", "hundredths"),
}
_CODES = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹"}
_COUNTRIES = {"US": "U S ", "A": "Australian ", "C": "Canadian ", "NZ": "New Zealand ", "": ""}
_SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million",
    "bn": "billion", "B": "billion", "tn": "trillion", "T": "trillion",
}  # fmt: skip

# One of it, and more where that is not one with an s.
_UNITS: Mapping[str, tuple[str, ...]] = {
    "km": ("kilometer",), "m": ("meter",), "cm": ("centimeter",), "mm": ("millimeter",),
    "µm": ("micrometer",), "nm": ("nanometer",), "mi": ("mile",), "ft": ("foot", "feet"),
    "yd": ("yard",), "in.": ("inch", "inches"), "km²": ("square kilometer",),
    "m²": ("square meter",),
    "cm²": ("square centimeter",), "mm²": ("square millimeter",), "m³": ("cubic meter",),
    "cm³": ("cubic centimeter",), "ha": ("hectare",), "kg": ("kilogram",), "g": ("gram",),
    "mg": ("milligram",), "µg": ("microgram",), "lb": ("pound",), "lbs": ("pound",),
    "oz": ("ounce",), "l": ("liter",), "L": ("liter",), "ml": ("milliliter",),
    "mL": ("milliliter",), "cl": ("centiliter",), "dl": ("deciliter",), "gal": ("gallon",),
    "s": ("second",), "sec": ("second",), "ms": ("millisecond",), "µs": ("microsecond",),
    "ns": ("nanosecond",), "min": ("minute",), "h": ("hour",), "hr": ("hour",), "hrs": ("hour",),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "W": ("watt",), "kW": ("kilowatt",), "MW": ("megawatt",),
    "GW": ("gigawatt",), "kWh": ("kilowatt hour",), "V": ("volt",), "mV": ("millivolt",),
    "kV": ("kilovolt",), "mA": ("milliampere",), "mAh": ("milliampere hour",),
    "hPa": ("hectopascal",), "kPa": ("kilopascal",), "bar": ("bar", "bar"), "kJ": ("kilojoule",),
    "kcal": ("kilocalorie",), "cal": ("calorie",), "kB": ("kilobyte",), "KB": ("kilobyte",),
    "MB": ("megabyte",), "GB": ("gigabyte",), "TB": ("terabyte",), "PB": ("petabyte",),
    "KiB": ("kibibyte",), "MiB": ("mebibyte",), "GiB": ("gibibyte",),
    "kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"), "dB": ("decibel",),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "fps": ("frame per second", "frames per second"), "px": ("pixel",),
    "ppm": ("part per million", "parts per million"), "kΩ": ("kiloohm",), "Ω": ("ohm",),
    "mph": ("mile per hour", "miles per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree",), "%": ("percent", "percent"), "‰": ("per mille", "per mille"),
}  # fmt: skip
_HALVES = {2: ("half", "halves"), 4: ("quarter", "quarters")}
_VULGAR = str.maketrans({
    "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅛": " 1/8", "⅜": " 3/8",
    "⅝": " 5/8", "⅞": " 7/8", "⅕": " 1/5", "⅙": " 1/6", "\N{MICRO SIGN}": "µ",
    "\N{GREEK SMALL LETTER MU}": "µ", "℃": "°C", "℉": "°F",
})  # fmt: skip
# Said as two numbers, not as a part of a whole.
_NOT_PARTS = {"24/7": "twenty four seven", "9/11": "nine eleven"}

_AMOUNT = r"\d+(?:,\d{3})*(?:\.\d+)?"
_PER = "second|minute|hour|day|week|month|year|night|person|unit|mile|kilogram|gallon|liter"
_PERS = {"mo": "month", "yr": "year", "hr": "hour", "h": "hour", "s": "second", "kg": "kilogram"}


def read_quantities(text: str, warn: Warn) -> str:
    """The text with all its numbers, and what belongs to them, in words.

    `warn` is told of dates that can be read in two ways.
    """
    text = text.translate(_VULGAR)
    for pattern, say in _DATES:
        text = re.sub(pattern, lambda found, say=say: say(found, warn), text)  # type: ignore[misc]
    for pattern, read in _RULES:
        text = re.sub(pattern, read, text)
    return text


def digits(text: str) -> str:
    """Each digit of a text as a word."""
    return " ".join(cardinal(int(digit)) for digit in text if digit.isdecimal())


def ordinal(number: int) -> str:
    """First, second, twenty first."""
    return spoken(f"{number}th").strip()


def year(number: int) -> str:
    """Nineteen oh five, two thousand six, twenty twelve."""
    return spoken(f"{number}").strip()


def _amount(text: str) -> str:
    """A number with its decimals in words."""
    whole, _, part = text.replace(",", "").partition(".")
    if part:
        return f"{cardinal(int(whole or 0))} point {digits(part)}"
    return digits(whole) if len(whole) > 1 and whole[0] == "0" else cardinal(int(whole))


def _one(text: str) -> bool:
    return text in ("1", "1.0", "1.00")


def _date(day: int, month: int, number: str | None) -> str | None:
    """A date in words; None where the calendar has none."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    said = f"{MONTHS[month - 1]} {ordinal(day)}"
    return f"{said}, {year(_century(number))}" if number else said


def _century(text: str) -> int:
    """The year that two digits stand for, or the year itself."""
    number = int(text)
    return number if len(text) > 2 else number + (2000 if number < 70 else 1900)


def _iso(found: Found, _: Warn) -> str:
    said = _date(int(found[3]), int(found[2]), found[1])
    return found[0] if said is None else f"{said}, " if found[4] else said


def _slashed(found: Found, warn: Warn) -> str:
    first, second, number = int(found[1]), int(found[3]), found[4]
    day, month = (first, second) if found[2] == "." or first > 12 else (second, first)
    said = _date(day, month, number)
    if said is None:
        return found[0]
    if found[2] == "/" and first <= 12 and second <= 12 and first != second:
        warn(f"{found[0]} is read as {said}; write the month in letters if that is wrong")
    return said


def _month_first(found: Found, _: Warn) -> str:
    if not 1 <= int(found["day"]) <= 31:
        return found[0]
    said = f"{_MONTH[found['month']]} {ordinal(int(found['day']))}"
    return f"{said}, {year(int(found['year']))}" if found["year"] else said


def _day_first(found: Found, _: Warn) -> str:
    if not 1 <= int(found["day"]) <= 31:
        return found[0]
    said = f"{found['the'] or 'the '}{ordinal(int(found['day']))} of {_MONTH[found['month']]}"
    return f"{said}, {year(int(found['year']))}" if found["year"] else said


def _month_and_year(found: Found, _: Warn) -> str:
    return f"{_MONTH[found['month']]} {year(int(found['year']))}"


def _clock(found: Found) -> str:
    hour, minute, second, half = int(found[1]), found[2] or "00", found[3], found["half"]
    if hour > 24:
        return found[0]
    said = cardinal(hour)
    if minute != "00":
        said += f" {'oh ' if minute[0] == '0' else ''}{cardinal(int(minute))}"
    elif not half and not second:
        said += " o'clock" if 0 < hour <= 12 else " hundred"
    if second:
        said += f" and {cardinal(int(second))} second{'' if int(second) == 1 else 's'}"
    return f"{said} {half.upper()} M" if half else said


def _money(found: Found) -> str:
    sign = found["sign"] or found["after"] or _CODES[found["code"]]
    country = _COUNTRIES.get(found["country"] or "", "")
    one, more, cent, cents = _MONEY[sign]
    amount, minus = found["amount"] or found["amount2"], "minus " if found["minus"] else ""
    scale = found["scale"] or found["scale2"]
    if scale:
        return f"{minus}{_amount(amount)} {_SCALES.get(scale, scale)} {country}{more}"
    whole, _, part = amount.replace(",", "").partition(".")
    if len(part) != 2:
        return f"{minus}{_amount(amount)} {country}{one if _one(amount) else more}"
    said = []
    if int(whole) or not int(part):
        said.append(f"{cardinal(int(whole))} {country}{one if int(whole) == 1 else more}")
    if int(part):
        said.append(f"{cardinal(int(part))} {cent if int(part) == 1 else cents}")
    return minus + " and ".join(said)


def _measure(found: Found) -> str:
    one, *more = _UNITS[found[2]]
    said = one if _one(found[1]) else more[0] if more else f"{one}s"
    return f"{_number(found[1])} {said}"


def _feet(found: Found) -> str:
    feet = "foot" if found[1] == "1" else "feet"
    return f"{cardinal(int(found[1]))} {feet} {cardinal(int(found[2]))}"


def _number(text: str) -> str:
    """Any number without a sign: as a year where it looks like one."""
    if len(text) == 4 and text.isdecimal() and 1100 <= int(text) < 2100:
        return year(int(text))
    return _amount(text)


def _part(found: Found) -> str:
    if found[0].strip() in _NOT_PARTS:
        return _NOT_PARTS[found[0].strip()]
    above, below = int(found[2]), int(found[3])
    if below < 2 or below > 100 or above > 100:
        said = f"{cardinal(above)} over {cardinal(below)}"
    else:
        one, more = _HALVES.get(below, (ordinal(below), f"{ordinal(below)}s"))
        said = f"{cardinal(above)} {one if above == 1 else more}"
    return f"{cardinal(int(found[1]))} and {said}" if found[1] else f" {said}"


def _decade(found: Found) -> str:
    return spoken(f"{found[1]}s").strip()


def _phone(found: Found) -> str:
    plus = "plus " if found[0].lstrip().startswith("+") else ""
    groups = re.findall(r"\d+", found[0])
    return f" {plus}{', '.join(map(digits, groups))}"


def _dotted(found: Found) -> str:
    numbers = found[2].split(".")
    between = " dot " if len(numbers) == 4 else " point "
    said = between.join(_amount(number) for number in numbers)
    return f"version {said}" if found[1] else said


def _spaced(said: str) -> Callable[[Found], str]:
    return lambda _: f" {said} "


_YEAR = r"(?:,? (?P<year>\d{4}))?"
_DATES: tuple[tuple[str, Callable[[Found, Warn], str]], ...] = (
    (r"(?<![\w-])(\d{4})-(\d{2})-(\d{2})(T(?=\d)|(?![\w-]))", _iso),
    (r"(?<![\w/.])(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2})(?![\w/]|\.\d)", _slashed),
    (
        rf"\b(?P<month>{_MONTHS})\b\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?{_YEAR}(?![\w:]|[.,]\d)",
        _month_first,
    ),
    (
        r"(?P<the>\b[Tt]he )?\b(?P<day>\d{1,2})(?:st|nd|rd|th)? (?:of )?"
        rf"(?P<month>{_MONTHS})\b(?:\.(?= \d))?{_YEAR}(?![\w:])",
        _day_first,
    ),
    (rf"\b(?P<month>{_MONTHS})\b\.?,? (?P<year>\d{{4}})(?!\w)", _month_and_year),
)

_HALF = r"(?P<half>[AaPp])\.?[Mm]\b(?:\.(?!\s+[A-Z]|\s*$))?"
_SIGNS = "".join(_MONEY)
_SCALE = "|".join(sorted((*_SCALES, "thousand", "million", "billion", "trillion"), key=len)[::-1])
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))

_RULES: tuple[tuple[str, str | Callable[[Found], str]], ...] = (
    (rf"([{_SIGNS}])[-−](?=\d)", r"-\1"),
    (r"(?<=:\d\d)Z\b", _spaced("U T C")),
    (rf"(?<![\w:])(\d{{1,2}})(?::([0-5]\d)(?::([0-5]\d))?)?\s?{_HALF}", _clock),
    (r"(?<![\w:])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?P<half>)(?![\w:]|\.\d)", _clock),
    (r"(?<![\w.])\+\d[\d ().-]{5,18}\d(?!\w)", _phone),
    (r"(?<![\w.])(?:1[-. ])?\(\d{3}\) ?\d{3}[-. ]\d{4}(?!\w)", _phone),
    (r"(?<![\w.-])(?:1[-.])?\d{3}([-.])\d{3}\1\d{4}(?![\w-])", _phone),
    (r"(?<![\w.-])\d{3}-\d{4}(?![\w-])", _phone),
    (r"(?<=\d) [-−] (?=\d[\d.]* =)", _spaced("minus")),
    (r"(?<=\d) [-–] (?=\d)", _spaced("to")),
    (r"(\d)\s?[-–](?=[$£€]?\d)(?!\d+-)", lambda found: f"{found[1]} to "),
    (
        rf"(?P<minus>(?<![\w)])[-−])?(?:(?P<country>\b(?:US|NZ|A|C))?(?P<sign>[{_SIGNS}])\s?"
        rf"(?P<amount>{_AMOUNT})(?:\s?(?P<scale>{_SCALE})\b)?"
        rf"|(?P<amount2>(?<![\w.]){_AMOUNT})(?:\s?(?P<scale2>{_SCALE}))?"
        rf"(?:\s?(?P<after>[{_SIGNS}])|\s(?P<code>{'|'.join(_CODES)})\b))",
        _money,
    ),
    (r"(?<![\w)])[-−](?=\.?\d)", _spaced("minus")),
    (
        r"(?<!\w)'?((?<=')\d0|(?<=[Tt]he )\d0|"
        r"(?<=and )\d0|(?<=early )\d0|(?<=late )\d0|\d{3}0)'?s\b",
        _decade,
    ),
    (rf"(?<![\w.,])({_AMOUNT})[\s-]?({_UNIT})(?!\w|['’]\w)", _measure),
    (r"\b(\d)['′]\s?(\d{1,2})(?:\"|″)", _feet),
    (rf"\s?/\s?(?=(?:{_PER})\b)", _spaced("per")),
    (rf"(?<=[a-z])/({'|'.join(_PERS)})\b", lambda found: f" per {_PERS[found[1]]}"),
    (r"(?<![\w.,/])(?:(\d{1,3}) +)?(\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)", _part),
    (r"\b(v)?(\d+(?:\.\d+){2,})(?!\w)", _dotted),
    (r"\b(v)(\d+\.\d+)(?!\w)", _dotted),
    (r"(?<!\w)#\s?(?=\d)", _spaced("number")),
    (r"(?<!\w)~\s?(?=\d)", _spaced("about")),
    (r"(?<=\d)\s?[×*]\s?(?=\d)", _spaced("times")),
    (r"(?<=\d)\s?x\s?(?=\d)", _spaced("by")),
    (r"(?<=\d)[x×](?!\w)", _spaced("times")),
    (r"(?<=\w)\^(?=-?\w)", _spaced("to the power of")),
    (r"(?<=\d):(?=\d)", _spaced("to")),
    (r"(?<=\d)\+(?!\s?\d)", _spaced("plus")),
    (r"(\d{1,3}(?:,\d{3})*)(?:st|nd|rd|th)\b", lambda f: f" {ordinal(int(f[1].replace(',', '')))}"),
    (rf"({_AMOUNT})(k|M|bn)\b", lambda found: f"{_amount(found[1])} {_SCALES[found[2]]}"),
    (r"(?<!\d)\.(\d+)", lambda found: f" zero point {digits(found[1])} "),
    (rf"(?<![\d,])({_AMOUNT})", lambda found: f" {_number(found[1])} "),
    (r"\d+", lambda found: f" {_number(found[0])} "),
)
