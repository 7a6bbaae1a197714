"""Abbreviations, acronyms, Roman numerals and addresses as they are read aloud in English."""

from __future__ import annotations

import re

from alm_cli.text.quantities import ordinal
from alm_cli.text.spoken import cardinal

Found = re.Match[str]

# Always with a point, which is never the end of a sentence.
_BEFORE = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor",
    "Gen": "General", "Col": "Colonel", "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant",
    "Cpl": "Corporal", "Maj": "Major", "Rev": "Reverend", "Hon": "Honorable", "Gov": "Governor",
    "Sen": "Senator", "Rep": "Representative", "Pres": "President", "Mt": "Mount", "Fr": "Father",
    "e.g": "for example", "eg": "for example", "i.e": "that is", "ie": "that is", "vs": "versus",
    "cf": "compare", "approx": "approximately", "ca": "circa", "viz": "namely", "incl": "including",
    "excl": "excluding", "temp": "temperature", "tel": "telephone",
    "ext": "extension", "esp": "especially",
}  # fmt: skip
# With a point that may end the sentence as well.
_AFTER = {
    "etc": "et cetera", "Inc": "Incorporated", "Ltd": "Limited", "Co": "Company",
    "Corp": "Corporation", "Jr": "Junior", "Sr": "Senior", "Ave": "Avenue", "Blvd": "Boulevard",
    "Rd": "Road", "Hwy": "Highway", "Sq": "Square", "et al": "and others", "dept": "department",
    "Dept": "Department", "est": "established", "misc": "miscellaneous", "min": "minutes",
    "max": "maximum", "no": "no", "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday",
    "Wed": "Wednesday", "Thu": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday",
    "a.k.a": "also known as", "Bros": "Brothers", "Univ": "University", "Assn": "Association",
}  # fmt: skip
# Only before a number.
_NUMBERED = {
    "No": "number", "no": "number", "Nos": "numbers", "nos": "numbers", "Nr": "number",
    "p": "page", "pp": "pages", "Fig": "figure", "fig": "figure", "Figs": "figures",
    "Vol": "volume", "vol": "volume", "Ch": "chapter", "ch": "chapter", "Sec": "section",
    "sec": "section", "Eq": "equation", "eq": "equation", "Art": "article", "art": "article",
    "Ed": "edition", "Rm": "room", "Apt": "apartment", "Bldg": "building", "c": "circa",
}  # fmt: skip
_PLAIN = {"w/o": "without", "w/": "with", "b/c": "because", "aka": "also known as", "vs": "versus"}

# Acronyms that are said as words.
_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    NASA NATO UNESCO UNICEF OPEC FIFA UEFA NAFTA LASER RADAR SONAR SCUBA AIDS COVID SARS MERS
    NASDAQ FEMA OSHA NOAA SWAT ASCII JPEG LAN WAN RAM ROM SIM PIN GIF CAPTCHA WASP NIMBY YOLO AWOL
    IKEA LEGO QANTAS ISIS HAMAS INTERPOL EUROPOL DARPA CERN ESA ASEAN BRICS EBITDA FOMO GUI NAND
    COBOL FORTRAN BASIC LISP PIXEL MODEM EPCOT HIPAA GAAP ERISA WIFI DOS RAID BIOS TOEFL SAAS BAFTA
        """,
    )
)  # fmt: skip
# Four letters or more with vowels among them, spelled all the same.
_SPELLED = frozenset(
    re.findall(
        r"\w+",
        """
    USDA IEEE NAACP ISBN IMDB UEFI UUID OECD IAEA UNHCR ADHD IATA ACLU AARP NCAA ESPN ICBM USMC
    ASAP AFAIK IIRC IMHO SAML OAUTH HDMI DVDS URLS IOPS OLED AMOLED GUID USAF RSVP
    USPS NYPD LAPD LGBT HTML HTTP HTTPS YMCA
        """,
    )
)  # fmt: skip
# Short words that people write large; "US" and "IT" are more often something else.
_SHORT = frozenset(
    re.findall(
        r"\w+",
        """
    A I AM AN AS AT BE BY DO GO HE IF IN IS ME MY NO OF OH OK ON OR SO TO UP WE AND ARE BAD BIG BUT
    CAN DAY DID END FOR GET GOT HAD HAS HER HEY HIM HIS HOT HOW ITS LET MAY MEN NEW NOT NOW OFF OLD
    ONE OUR OUT OWN RUN SAY SEE SHE THE TOO TRY TWO USE WAS WAY WHO WHY WON WOW YES YET YOU ALL ANY
    BUY SALE STOP FREE
        """,
    )
)  # fmt: skip

# Among words that are shouted, these are still not words.
_LETTERED = frozenset(
    re.findall(
        r"\w+",
        """
    FBI CIA USA UK EU UN TV PC AI CEO CFO CTO DNA RNA ATM GPS USB API URL PDF CD DVD HIV NBA NFL BBC
    CNN NYC IBM UFO VIP ID DIY FAQ IRS NHS KGB MIT SOS QR CPU GPU IQ
        """,
    )
)  # fmt: skip

_COUNTED = (
    "Chapter|Part|Act|Scene|War|Volume|Book|Section|Phase|Type|Class|Level|Bowl|Appendix|Article|"
    "Title|Season|Episode|Stage|Step|Grade|Mark|Vol|chapter|part|act|scene|volume|book|section|"
    "phase|type|class|level|stage|article"
)
_REIGNED = (
    "Henry|Charles|George|Edward|William|James|Louis|Richard|John|Paul|Pius|Benedict|Leo|Philip|"
    "Ferdinand|Frederick|Elizabeth|Mary|Catherine|Alexander|Napoleon|Nicholas|Peter|Ivan|Gregory|"
    "Clement|Innocent|Urban|Francis|Ramesses|Rameses|Robert|Malcolm|Gustav|Christian|Haakon|Olav|"
    "Carl|Juan|Carlos|Felipe|Alfonso|Pedro|Wilhelm|Otto|Rudolf|Leopold|Maximilian|Victor|Umberto|"
    "Cleopatra|Ptolemy|Darius|Xerxes|Constantine|Theodosius|Margaret|Joseph|Abdullah|Mehmed"
)
_ROMAN = r"(?:X{0,3}(?:IX|IV|V?I{0,3}))"
_VALUES = {"I": 1, "V": 5, "X": 10}

_STARTERS = "The|A|An|It|We|He|She|They|This|That|There|I|You|But|And|In|If|So|No|Yes|What|When"
_HARD = r"(?=\s+[A-Z“\"']|\s*[\"”’')]*\s*$)"
_MARKS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "?": "question mark", "=": "equals",
    "&": "and", "#": "hash", "@": "at", ":": "colon", "~": "tilde", "%": "percent", "+": "plus",
    ",": "comma", "!": "exclamation mark", "*": "star", "$": "dollar", ";": "semicolon", "'": "",
    "(": "", ")": "",
}  # fmt: skip
_SAID_DOMAINS = {"co", "com", "org", "net", "gov", "edu", "info", "biz", "app", "dev", "mil", "int"}
_URL = re.compile(
    r"\b(?:(?:https?|ftp)://|www\.)[\w/.?=&#@:~%+$*;,()'-]*[\w/]"
    r"|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|\b(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|co\.uk|de|fr|app|dev|ai|info)\b(?:/[\w/.?=&#-]*[\w/])?",
    re.IGNORECASE,
)  # fmt: skip


def read_addresses(text: str) -> str:
    """URLs and e-mail addresses, with their marks in words."""
    return _URL.sub(lambda found: f" {_address(found[0])} ", text)


def read_numbered(text: str) -> str:
    """What is an abbreviation only before a number."""
    for short, long in _NUMBERED.items():
        text = re.sub(rf"(?<![\w.'’]){short}\.\s?(?=\d)", f"{long} ", text)
    return text


def read_shorthand(text: str) -> str:
    """Abbreviations, initials and Roman numerals in words."""
    text = _saints(text)
    for short, long in _PLAIN.items():
        text = re.sub(rf"(?<!\w){short}(?!\w)\.?", f"{long} ", text)
    for short, long in _BEFORE.items():
        text = re.sub(rf"(?<![\w.]){re.escape(short)}\.", f"{long} ", text)
    for short, long in _AFTER.items():
        if short != "no":
            text = re.sub(rf"(?<![\w.]){re.escape(short)}\.{_HARD}", f"{long}.", text)
            text = re.sub(rf"(?<![\w.]){re.escape(short)}\.", long, text)
    text = re.sub(rf"\b((?:[A-Za-z]\.){{2,}}){_HARD}", lambda f: f"{_letters(f[1])}.", text)
    text = re.sub(r"\b((?:[A-Z]\.){2,}|(?:[a-z]\.){2,})", lambda f: _letters(f[1]), text)
    text = re.sub(r"\bPh\.?D\b\.?", "P H D", text)
    text = re.sub(rf"\b([A-HJ-Z])\. ?(?=[A-Z][\w.])(?!(?:{_STARTERS})\b)", r"\1 ", text)
    text = re.sub(rf"\b({_COUNTED}) ({_ROMAN})(?![\w.]\w|\w)", _counted, text)
    text = re.sub(rf"\b({_REIGNED}) ({_ROMAN})(?!\w)", _reigned, text)
    return re.sub(r"\b([A-Z][a-z]+) ((?=[IVX]{2})" + _ROMAN + r")(?!\w)", _counted, text)


def read_capitals(text: str) -> str:
    """Acronyms as words or letter by letter, and what is shouted in small letters."""
    text = re.sub(r"[^.!?]+", lambda found: _unshouted(found[0]), text)
    # Where capitals meet small letters or words: `CDs`, `NASA's`.
    return re.sub(r"\b([A-Z][A-Z&]+)(s|['’]s)?(?![a-z\w])", _capitals, text)


def _address(text: str) -> str:
    """An address in words: `example dot com slash a`."""
    text = re.sub(r"^(https?|ftp)://", "", text, flags=re.IGNORECASE).rstrip("/")
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|.", text):
        if part.isdecimal():
            number = int(part)
            few = len(part) < 3 and part[0] != "0"
            said.append(cardinal(number) if few else " ".join(map(_digit, part)))
        elif part.lower() == "www" or (part.isupper() and len(part) < 5):
            said.append(_letters(part))
        elif part.isalpha() and part.isascii():
            known = part.lower() in _SAID_DOMAINS or len(part) > 2 or said[-1:] != ["dot"]
            said.append(part if known else _letters(part))
        else:
            said.append(_MARKS.get(part, part))
    return " ".join(filter(None, said))


def _digit(character: str) -> str:
    return cardinal(int(character))


def _letters(text: str) -> str:
    """A word letter by letter, in capitals, so that `a` is not the article."""
    return " ".join(letter.upper() for letter in text if letter.isalpha())


def _saints(text: str) -> str:
    """`St.` is a saint before a name, and a street after one; `Dr.` is a drive after one."""
    named = r"(\b[A-Z][a-z]+(?:'s)?|\d(?:st|nd|rd|th)|\b(?:first|second|third|\w+th)) "
    text = re.sub(named + r"St\." + _HARD + r"(?!\s+[A-Z][a-z]+['’]s)", r"\1 Street.", text)
    text = re.sub(named + r"St\b\.?(?!\s+[A-Z])", r"\1 Street", text)
    text = re.sub(named + r"Dr\.?(?=\s*(?:[,;]|$)|\s+[a-z])", r"\1 Drive", text)
    return re.sub(r"\bSt\.? (?=[A-Z])", "Saint ", text)


def _value(roman: str) -> int:
    values = [_VALUES[letter] for letter in roman]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return sum(-here if here < after else here for here, after in pairs)


def _counted(found: Found) -> str:
    return f"{found[1]} {cardinal(_value(found[2]))}" if found[2] else found[0]


def _reigned(found: Found) -> str:
    roman = found[2]
    # "Charles I" and "so did Charles. I": only with a numeral of its own letters it is safe.
    if not roman or roman == "I":
        return found[0]
    if found[0] == "Malcolm X":
        return found[0]
    return f"{found[1]} the {ordinal(_value(roman))}"


def _unshouted(sentence: str) -> str:
    """A sentence in capitals throughout becomes one in small letters."""
    words = re.findall(r"[A-Za-z]{2,}", sentence)
    large = [word for word in words if word.isupper()]
    long = [word for word in large if _is_word(word) and len(word) > 3 and word not in _WORDS]
    if len(words) < 2 or len(large) < 0.8 * len(words) or len(long) < max(1, len(words) // 4):
        return sentence
    kept = _WORDS | _SPELLED | _LETTERED
    return re.sub(r"[A-Z]{2,}|\bA\b", lambda f: f[0] if f[0] in kept else f[0].lower(), sentence)


def _is_word(word: str) -> bool:
    """Whether capitals spell a word rather than stand for others."""
    if word in _SPELLED:
        return False
    return word in _WORDS or word in _SHORT or (len(word) > 3 and bool(re.search("[AEIOUY]", word)))


def _capitals(found: Found) -> str:
    word, end = found[1], found[2] or ""
    if "&" in word:
        return f"{' and '.join(map(_letters, word.split('&')))}{end}"
    if word in _WORDS:
        return word.capitalize() + end
    if word == "OK":
        return f"okay{end}"
    if _is_word(word):
        return word.lower() + end
    return _letters(word) + (f"'{end}" if end == "s" else end)
